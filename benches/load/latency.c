/* latency BOOTSTRAP TOPIC [SETTING...]: how long records take, from when they should have been sent, at a fixed rate.
 *
 *   load.rate, load.seconds    records a second in all, for so long; load.warm_seconds before are not counted
 *   load.size                  bytes of a record
 *   load.partitions            records go round these
 *   load.producers             clients, taken in turn
 *
 * The loop is open: a record carries the time at which it was due, however late the client gets to it, so that a
 * broker that stands still is charged for all that it held up. `e2e` is until a consumer of the same process has the
 * record, `ack` until the producer has the acknowledgement. The topic must be there and empty.
 */
#include <pthread.h>
#include <sys/prctl.h>

#include "kafka.h"

static const char *bootstrap, *topic_name;
static int given;
static char **settings;
static double rate, seconds, warm_seconds;
static long size, partitions, producers, total;
static struct stamps *e2e, *ack;
static uint64_t count_from_ns = UINT64_MAX;
static atomic_long received;
static atomic_int is_over, is_reading;

/* When the record was due; 0: it is not to be counted. */
static uint64_t due_of(const rd_kafka_message_t *message) {
    uint64_t due;
    if (message->err || message->len < sizeof due)
        return 0;
    memcpy(&due, message->payload, sizeof due);
    return due >= count_from_ns ? due : 0;
}

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    uint64_t now = now_ns(), due = due_of(message);
    if (message->err)
        die("not delivered: %s", rd_kafka_err2str(message->err));
    if (due)
        stamps_add(ack, now - due);
}

static void *serve(void *of) {
    while (!atomic_load(&is_over))
        rd_kafka_poll(of, 100);
    return NULL;
}

static void *consume(void *unused) {
    rd_kafka_conf_t *conf = configure(bootstrap, 0, NULL);
    set(conf, "enable.auto.commit", "false");
    set(conf, "fetch.min.bytes", "1");
    rd_kafka_t *client = client_new(RD_KAFKA_CONSUMER, conf);
    rd_kafka_topic_t *topic = topic_new(client, topic_name);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    for (long p = 0; p < partitions; p++)
        rd_kafka_consume_start_queue(topic, (int32_t)p, RD_KAFKA_OFFSET_BEGINNING, queue);
    atomic_store(&is_reading, 1);
    while (!atomic_load(&is_over)) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(queue, 100);
        if (!message)
            continue;
        uint64_t now = now_ns(), due = due_of(message);
        if (!message->err)
            atomic_fetch_add(&received, 1);
        if (due)
            stamps_add(e2e, now - due);
        rd_kafka_message_destroy(message);
    }
    return unused;
}

/* A record to each partition and producer: connections and logs are there then. */
static void prepare(rd_kafka_t **clients, rd_kafka_topic_t **topics, char *value) {
    uint64_t never = 0;
    memcpy(value, &never, sizeof never);
    for (long i = 0; i < producers; i++) {
        learn(clients[i], topics[i]);
        for (long p = i; p < partitions || p == i; p += producers) {
            rd_kafka_produce(topics[i], (int32_t)(p % partitions), RD_KAFKA_MSG_F_COPY, value, (size_t)size, NULL, 0, NULL);
            total++;
        }
        rd_kafka_flush(clients[i], 60000);
    }
}

static uint64_t send_all(rd_kafka_topic_t **topics, char *value) {
    uint64_t start = now_ns() + SECOND / 100;
    long count = (long)(rate * (seconds + warm_seconds));
    count_from_ns = start + (uint64_t)(warm_seconds * 1e9);
    for (long i = 0; i < count; i++) {
        uint64_t due = start + (uint64_t)((double)i * 1e9 / rate);
        wait_until(due);
        memcpy(value, &due, sizeof due);
        while (rd_kafka_produce(topics[i % producers], (int32_t)(i % partitions), RD_KAFKA_MSG_F_COPY, value,
                                (size_t)size, NULL, 0, NULL))
            usleep(200);
    }
    total += count;
    return start;
}

static void read_settings(void) {
    rate = number_setting(given, settings, "rate", 1000);
    seconds = number_setting(given, settings, "seconds", 10);
    warm_seconds = number_setting(given, settings, "warm_seconds", 1);
    size = (long)number_setting(given, settings, "size", 1024);
    partitions = (long)number_setting(given, settings, "partitions", 1);
    producers = (long)number_setting(given, settings, "producers", 1);
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage: latency BOOTSTRAP TOPIC [SETTING...]");
    bootstrap = argv[1], topic_name = argv[2], given = argc - 3, settings = argv + 3;
    read_settings();
    e2e = stamps_new((size_t)(rate * seconds * 1.1) + 1000);
    ack = stamps_new((size_t)(rate * seconds * 1.1) + 1000);
    prctl(PR_SET_TIMERSLACK, 1);
    rd_kafka_t **clients = calloc((size_t)producers, sizeof *clients);
    rd_kafka_topic_t **topics = calloc((size_t)producers, sizeof *topics);
    char *value = calloc(1, (size_t)size + sizeof(uint64_t));
    pthread_t thread, consumer;
    for (long i = 0; i < producers; i++) {
        rd_kafka_conf_t *conf = configure(bootstrap, given, settings);
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
        clients[i] = client_new(RD_KAFKA_PRODUCER, conf);
        topics[i] = topic_new(clients[i], topic_name);
        pthread_create(&thread, NULL, serve, clients[i]);
    }
    prepare(clients, topics, value);
    pthread_create(&consumer, NULL, consume, NULL);
    // The consumer is up once it has what was sent to prepare.
    for (int i = 0; i < 3000 && atomic_load(&received) < total; i++)
        usleep(10000);
    if (atomic_load(&received) < total)
        die("%ld of %ld first records were read", atomic_load(&received), total);
    double cpu = cpu_s();
    uint64_t start = send_all(topics, value);
    for (long i = 0; i < producers; i++)
        rd_kafka_flush(clients[i], 60000);
    double took = (double)(now_ns() - start) / 1e9;
    for (int i = 0; i < 1000 && atomic_load(&received) < total; i++)
        usleep(10000);
    atomic_store(&is_over, 1);
    pthread_join(consumer, NULL);
    printf("{");
    stamps_print(e2e, "e2e");
    stamps_print(ack, "ack");
    printf("\"missing\":%ld,\"seconds\":%.3f,\"records\":%ld,\"requests\":%llu,\"client_cpu_s\":%.3f}\n",
           total - atomic_load(&received), took, total, atomic_load(&produce_requests), cpu_s() - cpu);
    fflush(stdout);
    _exit(atomic_load(&received) < total);
}
