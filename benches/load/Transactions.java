import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Transactions BOOTSTRAP TOPIC SECONDS: transactions of one record of 1 KiB by Java's client, one after the other, and
 * how long each takes. What comes in the first third as long again is not counted: the JVM still compiles.
 *
 * It prints what the load programs in C print: one JSON object.
 */
public final class Transactions {
    private static final byte[] VALUE = new byte[1024];

    public static void main(String[] arguments) {
        String topic = arguments[1];
        long counted = (long) (Double.parseDouble(arguments[2]) * 1e9);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("transactional.id", "bench-java-" + ProcessHandle.current().pid());
        settings.put("linger.ms", "0");
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            print(measure(producer, topic, counted), counted);
        }
    }

    /** Nanoseconds of each transaction that began in time. */
    private static long[] measure(KafkaProducer<byte[], byte[]> producer, String topic, long counted) {
        long[] took = new long[1 << 20];
        int count = 0;
        long start = System.nanoTime() + counted / 3;
        long began = System.nanoTime();
        while (began - start < counted && count < took.length) {
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, null, VALUE));
            producer.commitTransaction();
            long ended = System.nanoTime();
            if (began >= start) {
                took[count++] = ended - began;
            }
            began = ended;
        }
        return Arrays.copyOf(took, count);
    }

    private static void print(long[] took, long counted) {
        Arrays.sort(took);
        System.out.printf(
                "{\"transaction_n\":%d,\"transaction_p50_us\":%.1f,\"transaction_p99_us\":%.1f,"
                        + "\"transaction_p999_us\":%.1f,\"records\":%d,\"bytes\":%d,\"records_per_s\":%.1f}%n",
                took.length, at(took, 0.5), at(took, 0.99), at(took, 0.999), took.length,
                (long) took.length * VALUE.length, took.length * 1e9 / counted);
    }

    /** Microseconds. */
    private static double at(long[] sorted, double share) {
        return sorted[(int) ((sorted.length - 1) * share)] / 1e3;
    }
}
