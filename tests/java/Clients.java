import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Java's clients against a broker: usage: Clients.java HOST:PORT [PART...]
 *
 * <p>Produces with every codec, keys and headers; consumes in a group of two, of both protocols, with rebalances; runs
 * transactions with offsets, of which the aborted ones stay invisible, and fences a zombie; and walks through the admin
 * client. Prints "ok" at the end.
 */
public final class Clients {
    private static final Duration POLL = Duration.ofMillis(100);
    private static final long DEADLINE_MS = 60_000;
    private static String bootstrap;
    private static Admin admin;

    private interface Part {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        Map<String, Part> parts = new java.util.LinkedHashMap<>();
        parts.put("codecs", Clients::codecs);
        parts.put("classicGroup", () -> groupOfTwo("classic"));
        parts.put("consumerGroup", () -> groupOfTwo("consumer"));
        parts.put("transactions", Clients::transactions);
        parts.put("administration", Clients::administration);
        List<String> wanted = Arrays.asList(arguments).subList(1, arguments.length);
        for (Map.Entry<String, Part> part : parts.entrySet()) {
            if (wanted.isEmpty() || wanted.contains(part.getKey())) {
                part.getValue().run();
                System.out.println(part.getKey() + " ok");
            }
        }
        admin.close();
        System.out.println("ok");
    }

    private static void check(boolean condition, Object what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    private static void same(Object got, Object want) {
        check(got.equals(want), "got " + got + ", want " + want);
    }

    private static String topic(int partitions) throws Exception {
        String name = "java-" + UUID.randomUUID();
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
        return name;
    }

    private static KafkaProducer<String, String> producer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(settings);
        all.put("bootstrap.servers", bootstrap);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    private static KafkaConsumer<String, String> consumer(Map<String, Object> settings) {
        Map<String, Object> all = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "auto.offset.reset", "earliest", "isolation.level", "read_committed",
            "enable.auto.commit", "false", "fetch.max.wait.ms", 100));
        all.putAll(settings);
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** Reads count records, then makes sure that no further one comes for a while. */
    private static List<ConsumerRecord<String, String>> readAll(String topic, int count, String isolation) {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        try (KafkaConsumer<String, String> reader = consumer(Map.of("isolation.level", isolation))) {
            List<TopicPartition> all = reader.partitionsFor(topic).stream()
                .map(it -> new TopicPartition(topic, it.partition())).toList();
            reader.assign(all);
            reader.seekToBeginning(all);
            long end = System.currentTimeMillis() + DEADLINE_MS;
            for (int quiet = 0; (got.size() < count || quiet < 5) && System.currentTimeMillis() < end; ) {
                int before = got.size();
                reader.poll(POLL).forEach(got::add);
                quiet = got.size() == before ? quiet + 1 : 0;
            }
        }
        same(got.size(), count);
        return got;
    }

    private static void codecs() throws Exception {
        String topic = topic(1);
        int count = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            try (KafkaProducer<String, String> client = producer(Map.of("compression.type", codec))) {
                for (int n = 0; n < 200; n++, count++) {
                    String value = ("value " + n + " ").repeat(20);
                    client.send(new ProducerRecord<>(topic, 0, codec + "-" + n, value,
                        List.of(new RecordHeader("codec", codec.getBytes()))));
                }
            }
        }
        List<ConsumerRecord<String, String>> got = readAll(topic, count, "read_uncommitted");
        for (int n = 0; n < count; n++) {
            ConsumerRecord<String, String> record = got.get(n);
            same(record.offset(), (long) n);
            String codec = record.key().split("-")[0];
            same(record.value(), ("value " + record.key().split("-")[1] + " ").repeat(20));
            same(new String(record.headers().lastHeader("codec").value()), codec);
        }
    }

    /** A consumer of a group: what it reads, what it owns. */
    private static final class Member implements AutoCloseable {
        final Set<Integer> owned = new HashSet<>();
        final Set<String> seen;
        final KafkaConsumer<String, String> client;

        Member(Map<String, Object> settings, String topic, Set<String> seen) {
            this.seen = seen;
            client = consumer(settings);
            client.subscribe(List.of(topic));
        }

        void poll() {
            client.poll(POLL).forEach(record -> seen.add(record.value()));
            owned.clear();
            client.assignment().forEach(it -> owned.add(it.partition()));
            if (!owned.isEmpty()) {
                client.commitAsync();
            }
        }

        @Override
        public void close() {
            client.commitSync();
            client.close();
        }
    }

    private static void until(BooleanSupplier condition, Object what, Member... members) {
        long end = System.currentTimeMillis() + DEADLINE_MS;
        while (!condition.getAsBoolean()) {
            check(System.currentTimeMillis() < end, "not in time: " + what);
            for (Member member : members) {
                member.poll();
            }
        }
    }

    private static void groupOfTwo(String protocol) throws Exception {
        String topic = topic(4);
        try (KafkaProducer<String, String> client = producer(Map.of())) {
            for (int n = 0; n < 400; n++) {
                client.send(new ProducerRecord<>(topic, n % 4, null, "" + n));
            }
        }
        String group = UUID.randomUUID().toString();
        Map<String, Object> settings = new HashMap<>(Map.of("group.id", group, "group.protocol", protocol));
        if (protocol.equals("classic")) {
            settings.put("heartbeat.interval.ms", 500);
            settings.put("session.timeout.ms", 6000);
            settings.put("partition.assignment.strategy",
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        }
        Set<String> seen = new HashSet<>();
        Member first = new Member(settings, topic, seen);
        until(() -> first.owned.size() == 4, first.owned, first);
        Member second = new Member(settings, topic, seen);
        List<Object> both = List.of(first.owned, second.owned);
        until(() -> first.owned.size() == 2 && second.owned.size() == 2, both, first, second);
        Set<Integer> union = new HashSet<>(first.owned);
        union.addAll(second.owned);
        same(union, Set.of(0, 1, 2, 3));
        until(() -> seen.size() == 400, seen, first, second);
        var described = admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
        same(described.members().size(), 2);
        same(described.groupState(), GroupState.STABLE);
        first.close();
        until(() -> second.owned.size() == 4, second.owned, second);
        second.close();
        var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        same(committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum(), 400L);
        var partition = new TopicPartition(topic, 0);
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(7))).all().get();
        committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        same(committed.get(partition).offset(), 7L);
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        same(committed.containsKey(partition), false);
        check(admin.listGroups().all().get().stream().anyMatch(it -> it.groupId().equals(group)), "listed");
        admin.deleteConsumerGroups(List.of(group)).all().get();
    }

    private static void transactions() throws Exception {
        String source = topic(1);
        String target = topic(2);
        try (KafkaProducer<String, String> client = producer(Map.of())) {
            for (int n = 0; n < 10; n++) {
                client.send(new ProducerRecord<>(source, "" + n));
            }
        }
        String id = UUID.randomUUID().toString();
        Map<String, Object> settings = Map.of("transactional.id", id, "compression.type", "zstd");
        KafkaProducer<String, String> client = producer(settings);
        client.initTransactions();
        Map<String, Object> group = Map.of("group.id", id, "max.poll.records", 10);
        try (KafkaConsumer<String, String> reader = consumer(group)) {
            reader.subscribe(List.of(source));
            int read = 0;
            for (long end = System.currentTimeMillis() + DEADLINE_MS; read < 10; ) {
                check(System.currentTimeMillis() < end, read + " of 10 records read");
                read += reader.poll(POLL).count();
            }
            for (int attempt = 0; attempt < 4; attempt++) {
                client.beginTransaction();
                for (int n = 0; n < 50; n++) {
                    client.send(new ProducerRecord<>(target, n % 2, null, attempt + "-" + n));
                }
                client.sendOffsetsToTransaction(
                    Map.of(new TopicPartition(source, 0), new OffsetAndMetadata(attempt + 5)),
                    reader.groupMetadata());
                if (attempt % 2 == 1) {
                    client.commitTransaction();
                } else {
                    // Else the client drops what it has not sent yet.
                    client.flush();
                    client.abortTransaction();
                }
            }
            var partition = new TopicPartition(source, 0);
            same(reader.committed(Set.of(partition)).get(partition).offset(), 8L);
        }
        Set<String> want = new HashSet<>();
        for (int n = 0; n < 50; n++) {
            want.addAll(List.of("1-" + n, "3-" + n));
        }
        Set<String> got = new HashSet<>();
        readAll(target, 100, "read_committed").forEach(record -> got.add(record.value()));
        same(got, want);
        readAll(target, 200, "read_uncommitted");

        client.beginTransaction();
        client.send(new ProducerRecord<>(target, "left open"));
        client.flush();
        var state = admin.describeTransactions(List.of(id)).description(id).get();
        same(state.state(), TransactionState.ONGOING);
        same(state.topicPartitions().size(), 1);
        check(admin.listTransactions().all().get().stream().anyMatch(it -> it.transactionalId().equals(id)), "listed");
        try (KafkaProducer<String, String> successor = producer(settings)) {
            successor.initTransactions();
            successor.beginTransaction();
            successor.send(new ProducerRecord<>(target, 0, null, "after"));
            successor.commitTransaction();
            try {
                client.send(new ProducerRecord<>(target, "zombie"));
                client.commitTransaction();
                check(false, "a zombie committed");
            } catch (ProducerFencedException | InvalidProducerEpochException expected) {
                // The coordinator says the one, a partition the other.
            }
        }
        client.close(Duration.ZERO);
        readAll(target, 101, "read_committed");
    }

    private static void administration() throws Exception {
        String topic = topic(2);
        var partition = new TopicPartition(topic, 0);
        same(admin.describeCluster().nodes().get().size(), 1);
        var features = admin.describeFeatures().featureMetadata().get().finalizedFeatures().keySet();
        check(features.containsAll(Set.of("metadata.version", "transaction.version", "group.version")), features);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
        same(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), 3);
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Collection<AlterConfigOp> change =
            List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "86400000"), AlterConfigOp.OpType.SET));
        admin.incrementalAlterConfigs(Map.of(resource, change)).all().get();
        var entry = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("retention.ms");
        same(entry.value(), "86400000");
        same(entry.source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG);
        try (KafkaProducer<String, String> client = producer(Map.of())) {
            for (int n = 0; n < 10; n++) {
                client.send(new ProducerRecord<>(topic, 0, 1_000L + n, null, "" + n));
            }
        }
        same(admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition).get().offset(), 10L);
        same(admin.listOffsets(Map.of(partition, OffsetSpec.forTimestamp(1_004))).partitionResult(partition).get()
            .offset(), 4L);
        same(admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition).get()
            .offset(), 9L);
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4)));
        same(deleted.lowWatermarks().get(partition).get().lowWatermark(), 4L);
        same(admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition).get().offset(), 4L);
        var producers = admin.describeProducers(List.of(partition)).partitionResult(partition).get();
        same(producers.activeProducers().size(), 1);
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        var dirs = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
        check(dirs.values().stream().anyMatch(it -> it.replicaInfos().containsKey(partition)), dirs);
        check(admin.describeMetadataQuorum().quorumInfo().get().leaderId() >= 0, "a leader of the quorum");
        admin.deleteTopics(List.of(topic)).all().get();
        check(!admin.listTopics().names().get().contains(topic), "the topic is gone");
    }
}
