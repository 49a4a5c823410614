/* transactions BOOTSTRAP TOPIC [SETTING...]: what exactly-once costs.
 *
 *   load.mode=single     transactions of one record, one after the other: how long each takes, and until a consumer
 *                        of committed records has it
 *   load.mode=interval   records without pause, a commit every load.interval_ms; in turn with another producer, which
 *                        is idempotent only, load.stretch_ms each: `share` is what commits leave of its rate
 *   load.mode=copy       the same, but each record comes from load.input, and a commit holds how far that was read
 *                        (in both, `records` and `bytes` are of both producers, `records_per_s` of the one that commits)
 *   load.seconds         for so long; load.warm_seconds before are not counted
 *   load.imitation=1     not with the broker but with librdkafka's imitation of one, on a thread of this process, which
 *                        keeps nothing but answers at once: what the client takes by itself
 *   load.size, load.producers, load.partitions
 */
#include <pthread.h>

#include "kafka.h"
#include "rdkafka_mock.h"

static const char *bootstrap, *topic_name, *input;
static int given;
static char **settings;
static long size, producers, partitions;
static double seconds, warm_seconds, interval_ms, stretch_ms;
static uint64_t count_from_ns, end_ns;
static struct stamps *whole, *commits, *e2e;
static atomic_ulong records;
static atomic_int is_over, agreed;
static pthread_barrier_t ready, done, together;

/* How many records in how long. */
struct tally {
    atomic_ulong records, ns;
};
static struct tally plain_tally, committed_tally;

static void require(rd_kafka_error_t *error) {
    if (error)
        die("transaction: %s", rd_kafka_error_string(error));
}

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    if (message->err)
        die("not delivered: %s", rd_kafka_err2str(message->err));
    if (now_ns() >= count_from_ns && !atomic_load(&is_over))
        atomic_fetch_add_explicit(&records, 1, memory_order_relaxed);
}

/* Reads committed records; each says when its transaction began. */
static void *consume(void *unused) {
    rd_kafka_conf_t *conf = configure(bootstrap, 0, NULL);
    set(conf, "enable.auto.commit", "false");
    set(conf, "isolation.level", "read_committed");
    rd_kafka_t *client = client_new(RD_KAFKA_CONSUMER, conf);
    rd_kafka_topic_t *topic = topic_new(client, topic_name);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    for (long p = 0; p < partitions; p++)
        rd_kafka_consume_start_queue(topic, (int32_t)p, RD_KAFKA_OFFSET_BEGINNING, queue);
    while (!atomic_load(&is_over)) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(queue, 100);
        if (!message)
            continue;
        uint64_t now = now_ns(), began;
        if (!message->err && message->len >= sizeof began) {
            memcpy(&began, message->payload, sizeof began);
            if (began >= count_from_ns)
                stamps_add(e2e, now - began);
        }
        rd_kafka_message_destroy(message);
    }
    return unused;
}

/* Reports of delivery are served by the same thread: were it another, a commit would wait in steps of 10 ms for what that
 * one has taken. */
static void queue_record(rd_kafka_t *client, rd_kafka_topic_t *topic, long number, const void *value, size_t bytes) {
    if (number / producers % 64 == 0)
        rd_kafka_poll(client, 0);
    while (rd_kafka_produce(topic, (int32_t)(number % partitions), RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)value, bytes,
                            NULL, 0, NULL)) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(client, 1);
    }
}

static void commit(rd_kafka_t *client, uint64_t began) {
    uint64_t before = now_ns();
    require(rd_kafka_commit_transaction(client, 60000));
    uint64_t after = now_ns();
    if (began < count_from_ns)
        return;
    stamps_add(commits, after - before);
    stamps_add(whole, after - began);
}

static void run_single(rd_kafka_t *client, rd_kafka_topic_t *topic, char *value, long number) {
    for (uint64_t began = now_ns(); began < end_ns; began = now_ns()) {
        memcpy(value, &began, sizeof began);
        require(rd_kafka_begin_transaction(client));
        queue_record(client, topic, number++, value, (size_t)size);
        commit(client, began);
    }
}

/* A consumer of the input's partition of this number, with a group of its own. */
static rd_kafka_t *reader_new(long number) {
    char group[64];
    snprintf(group, sizeof group, "copy-%ld-%d", number, (int)getpid());
    rd_kafka_conf_t *conf = configure(bootstrap, 0, NULL);
    set(conf, "group.id", group);
    set(conf, "enable.auto.commit", "false");
    set(conf, "isolation.level", "read_committed");
    // By default it reads nothing for a second once it has 100,000 records: that would be all there is to measure.
    set(conf, "fetch.queue.backoff.ms", "1");
    rd_kafka_t *reader = client_new(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(reader);
    rd_kafka_topic_partition_list_t *assigned = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(assigned, input, (int32_t)(number % partitions))->offset = RD_KAFKA_OFFSET_BEGINNING;
    if (rd_kafka_assign(reader, assigned))
        die("%s: cannot be assigned", input);
    return reader;
}

/* A producer and where its records come from. */
struct lane {
    rd_kafka_t *client;
    rd_kafka_topic_t *topic;
    // Number of the next record, in steps of one: so many are queued.
    long next;
    const char *value;
    // None: all records are `value`.
    rd_kafka_t *reader;
    int32_t read_partition;
    int64_t read_next;
};

static void lane_open(struct lane *lane, const char *setting, const char *value) {
    rd_kafka_conf_t *conf = configure(bootstrap, given, settings);
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    set(conf, setting, value);
    lane->client = client_new(RD_KAFKA_PRODUCER, conf);
    lane->topic = topic_new(lane->client, topic_name);
    learn(lane->client, lane->topic);
}

static void copy_record(struct lane *lane) {
    rd_kafka_message_t *message = rd_kafka_consumer_poll(lane->reader, 1);
    if (!message)
        return;
    if (!message->err) {
        queue_record(lane->client, lane->topic, lane->next++, message->payload, message->len);
        lane->read_partition = message->partition, lane->read_next = message->offset + 1;
    }
    rd_kafka_message_destroy(message);
}

static void queue_until(struct lane *lane, uint64_t until) {
    // Records that are only queued are too cheap for a look at the clock each; one that is read may be waited for.
    for (long i = 0; (!lane->reader && i % 16) || now_ns() < until; i++)
        if (lane->reader)
            copy_record(lane);
        else
            queue_record(lane->client, lane->topic, lane->next++, lane->value, (size_t)size);
}

/* How far was read becomes part of the transaction. */
static void send_offsets(struct lane *lane) {
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(offsets, input, lane->read_partition)->offset = lane->read_next;
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata(lane->reader);
    require(rd_kafka_send_offsets_to_transaction(lane->client, offsets, group, 60000));
    rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_topic_partition_list_destroy(offsets);
}

static void add_up(struct tally *tally, long count, uint64_t from) {
    if (!count)
        die("a stretch brought nothing: %s", input[0] ? "all of the input was read" : "the queue stood still");
    atomic_fetch_add(&tally->records, (unsigned long)count);
    atomic_fetch_add(&tally->ns, now_ns() - from);
}

/* Records a second of all producers. */
static double rate_of(struct tally *tally) {
    unsigned long ns = atomic_load(&tally->ns);
    return ns ? (double)atomic_load(&tally->records) * 1e9 / (double)ns * (double)producers : 0;
}

/* The rate of a producer that never stops: neither the stretch's first tenth counts, in which the queue fills, nor the
 * wait for what is queued at its end. Between the two what enters the queue is what leaves it. When copying, what the
 * reader fetched meanwhile is not counted here, but where transactions wait it is: by so much the share is too high. */
static void run_plain(struct lane *lane, int is_counted) {
    uint64_t began = now_ns(), stretch_ns = (uint64_t)(stretch_ms * 1e6);
    queue_until(lane, began + stretch_ns / 10);
    long before = lane->next;
    uint64_t from = now_ns();
    queue_until(lane, began + stretch_ns);
    if (is_counted)
        add_up(&plain_tally, lane->next - before, from);
    rd_kafka_flush(lane->client, 60000);
}

/* Transactions one after the other; all of each counts, from its begin until its commit is acknowledged. */
static void run_committed(struct lane *lane, int is_counted) {
    uint64_t from = now_ns(), end = from + (uint64_t)(stretch_ms * 1e6);
    long before = lane->next;
    for (uint64_t began = from; began < end; began = now_ns()) {
        require(rd_kafka_begin_transaction(lane->client));
        queue_until(lane, began + (uint64_t)(interval_ms * 1e6));
        if (lane->reader && lane->read_next)
            send_offsets(lane);
        commit(lane->client, is_counted ? began : 0);
    }
    if (is_counted)
        add_up(&committed_tally, lane->next - before, from);
}

/* Whether the moment is past: one producer looks at the clock, and tells the others. */
static int is_past(uint64_t moment) {
    if (pthread_barrier_wait(&together) == PTHREAD_BARRIER_SERIAL_THREAD)
        atomic_store(&agreed, now_ns() >= moment);
    pthread_barrier_wait(&together);
    return atomic_load(&agreed);
}

/* Both producers have what they get once: a producer id, and a place in the log. */
static void run_first(struct lane *plain, struct lane *committed, const char *value) {
    queue_record(plain->client, plain->topic, plain->next, value, (size_t)size);
    rd_kafka_flush(plain->client, 60000);
    require(rd_kafka_begin_transaction(committed->client));
    queue_record(committed->client, committed->topic, committed->next, value, (size_t)size);
    require(rd_kafka_commit_transaction(committed->client, 60000));
}

static void *run(void *of) {
    long number = (long)(intptr_t)of;
    char id[64];
    const char *mode = text_setting(given, settings, "mode", "single");
    int is_single = !strcmp(mode, "single");
    char *value = calloc(1, (size_t)size + sizeof(uint64_t));
    snprintf(id, sizeof id, "bench-%ld-%d", number, (int)getpid());
    struct lane committed = {.next = number, .value = value}, plain = committed;
    lane_open(&committed, "transactional.id", id);
    require(rd_kafka_init_transactions(committed.client, 60000));
    if (!is_single) {
        lane_open(&plain, "enable.idempotence", "true");
        run_first(&plain, &committed, value);
    }
    if (!strcmp(mode, "copy"))
        committed.reader = plain.reader = reader_new(number);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    if (is_single)
        run_single(committed.client, committed.topic, value, number);
    else
        do {
            int is_counted = is_past(count_from_ns);
            run_plain(&plain, is_counted);
            pthread_barrier_wait(&together);
            run_committed(&committed, is_counted);
        } while (!is_past(end_ns));
    pthread_barrier_wait(&done);
    return NULL;
}

/* Where librdkafka's imitation of a broker listens. */
static const char *imitation(void) {
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(client_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new()), 1);
    return rd_kafka_mock_cluster_bootstraps(cluster);
}

static void read_settings(void) {
    input = text_setting(given, settings, "input", "");
    size = (long)number_setting(given, settings, "size", 1024);
    producers = (long)number_setting(given, settings, "producers", 1);
    partitions = (long)number_setting(given, settings, "partitions", 1);
    seconds = number_setting(given, settings, "seconds", 10);
    warm_seconds = number_setting(given, settings, "warm_seconds", 1);
    interval_ms = number_setting(given, settings, "interval_ms", 100);
    stretch_ms = number_setting(given, settings, "stretch_ms", 500);
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage: transactions BOOTSTRAP TOPIC [SETTING...]");
    bootstrap = argv[1], topic_name = argv[2], given = argc - 3, settings = argv + 3;
    read_settings();
    if (number_setting(given, settings, "imitation", 0) > 0)
        bootstrap = imitation();
    whole = stamps_new(1 << 22), commits = stamps_new(1 << 22), e2e = stamps_new(1 << 22);
    pthread_barrier_init(&together, NULL, (unsigned)producers);
    pthread_barrier_init(&ready, NULL, (unsigned)producers + 1);
    pthread_barrier_init(&done, NULL, (unsigned)producers + 1);
    count_from_ns = UINT64_MAX;
    pthread_t thread;
    for (long i = 0; i < producers; i++)
        pthread_create(&thread, NULL, run, (void *)(intptr_t)i);
    if (!strcmp(text_setting(given, settings, "mode", "single"), "single"))
        pthread_create(&thread, NULL, consume, NULL);
    pthread_barrier_wait(&ready);
    double cpu = cpu_s();
    count_from_ns = now_ns() + (uint64_t)(warm_seconds * 1e9);
    end_ns = count_from_ns + (uint64_t)(seconds * 1e9);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&done);
    double took = (double)(now_ns() - count_from_ns) / 1e9;
    unsigned long count = atomic_load(&records);
    double plain_rate = rate_of(&plain_tally), committed_rate = rate_of(&committed_tally);
    usleep(300000);
    atomic_store(&is_over, 1);
    usleep(200000);
    printf("{");
    stamps_print(whole, "transaction");
    stamps_print(commits, "commit");
    stamps_print(e2e, "e2e");
    if (plain_rate > 0)
        printf("\"plain_per_s\":%.1f,\"share\":%.4f,", plain_rate, committed_rate / plain_rate);
    printf("\"records\":%lu,\"bytes\":%lu,\"seconds\":%.3f,\"records_per_s\":%.1f,\"mb_per_s\":%.3f,\"requests\":%llu,"
           "\"client_cpu_s\":%.3f}\n",
           count, count * (unsigned long)size, took, plain_rate > 0 ? committed_rate : (double)count / took,
           (double)count * (double)size / took / 1e6,
           atomic_load(&produce_requests), cpu_s() - cpu);
    fflush(stdout);
    _exit(0);
}
