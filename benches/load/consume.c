/* consume BOOTSTRAP TOPIC [SETTING...]: reads load.count records from the start, as fast as they come.
 *
 *   load.partitions     all of these are read; each belongs to one consumer
 *   load.consumers      clients, each with a thread
 *
 * Time counts from the first request to the last record. Ten seconds without a record end it with an error.
 */
#include <pthread.h>

#include "kafka.h"

#define BATCH 1000

static long count, partitions, consumers;
static const char *topic_name;
static atomic_long left;
static atomic_ullong bytes;
static atomic_int is_short;
static pthread_barrier_t done;

struct consumer {
    rd_kafka_t *client;
    long number;
};

static void *consume(void *of) {
    struct consumer *consumer = of;
    rd_kafka_topic_t *topic = topic_new(consumer->client, topic_name);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer->client);
    for (long p = consumer->number; p < partitions; p += consumers)
        if (rd_kafka_consume_start_queue(topic, (int32_t)p, RD_KAFKA_OFFSET_BEGINNING, queue))
            die("partition %ld: %s", p, rd_kafka_err2str(rd_kafka_last_error()));
    rd_kafka_message_t *messages[BATCH];
    uint64_t last_ns = now_ns();
    while (atomic_load(&left) > 0) {
        ssize_t came = rd_kafka_consume_batch_queue(queue, 100, messages, BATCH);
        uint64_t came_bytes = 0;
        long came_records = 0;
        for (ssize_t i = 0; i < came; i++) {
            if (!messages[i]->err) {
                came_records++;
                came_bytes += messages[i]->len;
            }
            rd_kafka_message_destroy(messages[i]);
        }
        if (came_records)
            last_ns = now_ns();
        else if (now_ns() - last_ns > 10 * SECOND) {
            atomic_store(&is_short, 1);
            break;
        }
        atomic_fetch_add(&bytes, came_bytes);
        atomic_fetch_sub(&left, came_records);
    }
    pthread_barrier_wait(&done);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3)
        die("usage: consume BOOTSTRAP TOPIC [SETTING...]");
    int given = argc - 3;
    char **settings = argv + 3;
    topic_name = argv[2];
    count = (long)number_setting(given, settings, "count", 0);
    partitions = (long)number_setting(given, settings, "partitions", 1);
    consumers = (long)number_setting(given, settings, "consumers", 1);
    atomic_store(&left, count);
    pthread_barrier_init(&done, NULL, (unsigned)consumers + 1);
    struct consumer *all = calloc((size_t)consumers, sizeof *all);
    for (long i = 0; i < consumers; i++) {
        rd_kafka_conf_t *conf = configure(argv[1], given, settings);
        set(conf, "enable.auto.commit", "false");
        all[i] = (struct consumer){.client = client_new(RD_KAFKA_CONSUMER, conf), .number = i};
    }
    double cpu = cpu_s();
    uint64_t start_ns = now_ns();
    pthread_t thread;
    for (long i = 0; i < consumers; i++)
        pthread_create(&thread, NULL, consume, &all[i]);
    pthread_barrier_wait(&done);
    double took = (double)(now_ns() - start_ns) / 1e9;
    long records = count - atomic_load(&left);
    double read = (double)atomic_load(&bytes);
    printf("{\"records\":%ld,\"bytes\":%.0f,\"seconds\":%.4f,\"records_per_s\":%.1f,\"mb_per_s\":%.3f,\"requests\":%llu,"
           "\"client_cpu_s\":%.3f}\n",
           records, read, took, (double)records / took, read / took / 1e6, atomic_load(&fetch_requests),
           cpu_s() - cpu);
    fflush(stdout);
    if (atomic_load(&is_short))
        fprintf(stderr, "only %ld of %ld records came\n", records, count);
    _exit(atomic_load(&is_short));
}
