/* produce BOOTSTRAP TOPIC [SETTING...]: as many records as librdkafka and the broker can move, in a closed loop.
 *
 *   load.count, load.size      records in all, and bytes of each
 *   load.seconds               ends after so long, whatever the count
 *   load.partitions            records go round these, or with load.keyed=1 where librdkafka's partitioner says
 *   load.producers             clients, each with a thread, sharing the count
 *   load.json=1                values are lines of JSON that differ, for codecs to have something to do
 *   load.ledger=FILE           a byte per record, 1 once it is acknowledged; the record begins with its number
 *
 * One record goes to each partition before the clock starts: connections and logs are there then. `first_s` is how
 * long that took, from when the client knew who leads.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>

#include "kafka.h"

static long count, size, partitions, producers;
static int is_keyed, is_json;
static double seconds;
static uint8_t *ledger;
static uint64_t start_ns;
static atomic_ulong acked, failed, sent;
static pthread_barrier_t ready, done;

struct producer {
    rd_kafka_t *client;
    const char *topic;
    long number;
    double first_s;
    atomic_int is_over;
};

static void delivered(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    if (message->err) {
        if (!atomic_fetch_add(&failed, 1))
            fprintf(stderr, "not delivered: %s\n", rd_kafka_err2str(message->err));
        return;
    }
    if (message->_private)
        ledger[(uintptr_t)message->_private - 1] = 1;
    atomic_fetch_add_explicit(&acked, 1, memory_order_relaxed);
}

static void *serve(void *of) {
    struct producer *producer = of;
    while (!atomic_load(&producer->is_over))
        rd_kafka_poll(producer->client, 100);
    return NULL;
}

/* A line as a service would log it, some 200 bytes. */
static size_t json_line(char *line, size_t room, long number) {
    uint64_t mixed = (uint64_t)number * 0x9E3779B97F4A7C15ull;
    static const char *paths[] = {"/orders", "/orders/{id}", "/carts", "/login", "/search", "/items"};
    int bytes = snprintf(line, room,
                         "{\"ts\":%" PRIu64 ",\"level\":\"%s\",\"service\":\"shop-%u\",\"path\":\"%s\",\"status\":%u,"
                         "\"duration_us\":%u,\"user\":\"u%08x\",\"trace\":\"%016" PRIx64 "\",\"bytes\":%u,\"cached\":%s}",
                         (uint64_t)1700000000000 + (uint64_t)number, mixed >> 60 ? "INFO" : "WARN", (unsigned)(mixed >> 32) % 16,
                         paths[(mixed >> 40) % 6], mixed >> 61 ? 200u : 404u, (unsigned)(mixed >> 20) % 90000,
                         (unsigned)(mixed >> 12), mixed, (unsigned)(mixed >> 8) % 65536, mixed & 1 ? "true" : "false");
    return (size_t)bytes < room ? (size_t)bytes : room;
}

/* Queues a record, waiting while the queue is full. */
static void queue(rd_kafka_topic_t *topic, int32_t partition, char *value, size_t bytes, long number, void *mark) {
    uint64_t key = (uint64_t)number * 0x9E3779B97F4A7C15ull >> 40;
    size_t key_bytes = is_keyed ? sizeof key : 0;
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, value, bytes, is_keyed ? &key : NULL, key_bytes, mark)) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
        usleep(200);
    }
}

static void *produce(void *of) {
    struct producer *producer = of;
    rd_kafka_topic_t *topic = topic_new(producer->client, producer->topic);
    learn(producer->client, topic);
    char *value = malloc((size_t)size + 512);
    for (long i = 0; i < size; i++)
        value[i] = (char)('a' + i * 7 % 26);
    uint64_t learnt_ns = now_ns();
    // With a ledger, every record is one of its own.
    for (long i = producer->number; !ledger && i < partitions; i += producers)
        queue(topic, (int32_t)i, value, (size_t)size, i, NULL);
    rd_kafka_flush(producer->client, 600000);
    producer->first_s = (double)(now_ns() - learnt_ns) / 1e9;
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&ready);
    uint64_t end_ns = start_ns + (uint64_t)(seconds * 1e9);
    for (long i = producer->number; i < count; i += producers) {
        if (i / producers % 64 == 0 && now_ns() >= end_ns)
            break;
        size_t bytes = (size_t)size;
        if (is_json)
            bytes = json_line(value, (size_t)size + 512, i);
        else
            memcpy(value, &i, sizeof i);
        int32_t partition = is_keyed ? RD_KAFKA_PARTITION_UA : (int32_t)(i / producers % partitions);
        queue(topic, partition, value, bytes, i, ledger ? (void *)(uintptr_t)(i + 1) : NULL);
        atomic_fetch_add_explicit(&sent, bytes, memory_order_relaxed);
    }
    rd_kafka_flush(producer->client, 600000);
    pthread_barrier_wait(&done);
    return NULL;
}

static void open_ledger(const char *path) {
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || ftruncate(file, count))
        die("%s: cannot be made", path);
    ledger = mmap(NULL, (size_t)count, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (ledger == MAP_FAILED)
        die("%s: cannot be mapped", path);
}

static void read_settings(int given, char **settings) {
    count = (long)number_setting(given, settings, "count", 1e15);
    size = (long)number_setting(given, settings, "size", 1024);
    seconds = number_setting(given, settings, "seconds", 1e6);
    partitions = (long)number_setting(given, settings, "partitions", 1);
    producers = (long)number_setting(given, settings, "producers", 1);
    is_keyed = number_setting(given, settings, "keyed", 0) != 0;
    is_json = number_setting(given, settings, "json", 0) != 0;
    const char *path = text_setting(given, settings, "ledger", NULL);
    if (path)
        open_ledger(path);
}

static double slowest(const struct producer *all) {
    double first_s = 0;
    for (long i = 0; i < producers; i++)
        first_s = all[i].first_s > first_s ? all[i].first_s : first_s;
    return first_s;
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage: produce BOOTSTRAP TOPIC [SETTING...]");
    read_settings(argc - 3, argv + 3);
    struct producer *all = calloc((size_t)producers, sizeof *all);
    pthread_t thread;
    pthread_barrier_init(&ready, NULL, (unsigned)producers + 1);
    pthread_barrier_init(&done, NULL, (unsigned)producers + 1);
    for (long i = 0; i < producers; i++) {
        rd_kafka_conf_t *conf = configure(argv[1], argc - 3, argv + 3);
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
        all[i] = (struct producer){.client = client_new(RD_KAFKA_PRODUCER, conf), .topic = argv[2], .number = i};
        pthread_create(&thread, NULL, serve, &all[i]);
        pthread_create(&thread, NULL, produce, &all[i]);
    }
    pthread_barrier_wait(&ready);
    atomic_store(&acked, 0);
    unsigned long long requests = atomic_load(&produce_requests);
    double cpu = cpu_s();
    start_ns = now_ns();
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&done);
    double took = (double)(now_ns() - start_ns) / 1e9;
    unsigned long records = atomic_load(&acked);
    double bytes = (double)atomic_load(&sent);
    printf("{\"records\":%lu,\"failed\":%lu,\"bytes\":%.0f,\"seconds\":%.4f,\"records_per_s\":%.1f,\"mb_per_s\":%.3f,"
           "\"requests\":%llu,\"first_s\":%.4f,\"client_cpu_s\":%.3f}\n",
           records, atomic_load(&failed), bytes, took, (double)records / took, bytes / took / 1e6,
           atomic_load(&produce_requests) - requests, slowest(all), cpu_s() - cpu);
    fflush(stdout);
    // The clients' threads have nothing to say any more; leaving in good order takes a second.
    _exit(atomic_load(&failed) ? 1 : 0);
}
