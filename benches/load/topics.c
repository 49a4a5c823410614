/* topics BOOTSTRAP create NAME PARTITIONS [TOPICS]: creates NAME-0, NAME-1… (or NAME alone), with PARTITIONS each.
 * topics BOOTSTRAP delete NAME [TOPICS]: deletes them.
 *
 * `reply_s` is until the broker says that it is done, `leaders_s` until every partition has a leader.
 */
#include "kafka.h"

/* Kafka refuses to create more at once: its controller would have to log them as one batch. */
#define AT_ONCE 5000

static char names[10000][256];
static int topic_count;

static void name_topics(const char *name, int count) {
    topic_count = count > 0 ? count : 1;
    if (topic_count > (int)(sizeof names / sizeof *names))
        die("at most %zu topics", sizeof names / sizeof *names);
    for (int i = 0; i < topic_count; i++)
        if (count > 0)
            snprintf(names[i], sizeof names[i], "%s-%d", name, i);
        else
            snprintf(names[i], sizeof names[i], "%s", name);
}

static void check(rd_kafka_event_t *event, const rd_kafka_topic_result_t **results, size_t count) {
    if (rd_kafka_event_error(event))
        die("%s", rd_kafka_event_error_string(event));
    for (size_t i = 0; i < count; i++)
        if (rd_kafka_topic_result_error(results[i]))
            die("%s: %s", rd_kafka_topic_result_name(results[i]), rd_kafka_topic_result_error_string(results[i]));
}

static rd_kafka_AdminOptions_t *patient(rd_kafka_t *client) {
    char why[512];
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_ANY);
    rd_kafka_AdminOptions_set_request_timeout(options, 290000, why, sizeof why);
    rd_kafka_AdminOptions_set_operation_timeout(options, 280000, why, sizeof why);
    return options;
}

/* Adds the partitions for which one request is too small. */
static void grow(rd_kafka_t *client, rd_kafka_queue_t *queue, int topic, int partitions) {
    char why[512];
    for (int have = AT_ONCE; have < partitions;) {
        have = have + AT_ONCE < partitions ? have + AT_ONCE : partitions;
        rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(names[topic], (size_t)have, why, sizeof why);
        if (!more)
            die("%s: %s", names[topic], why);
        rd_kafka_CreatePartitions(client, &more, 1, patient(client), queue);
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 300000);
        if (!event)
            die("no answer to the creation of partitions");
        size_t count;
        const rd_kafka_topic_result_t **results =
            rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &count);
        check(event, results, count);
    }
}

static void create(rd_kafka_t *client, rd_kafka_queue_t *queue, int partitions) {
    rd_kafka_NewTopic_t **topics = calloc((size_t)topic_count, sizeof *topics);
    char why[512];
    for (int i = 0; i < topic_count; i++)
        if (!(topics[i] = rd_kafka_NewTopic_new(names[i], partitions < AT_ONCE ? partitions : AT_ONCE, 1, why, sizeof why)))
            die("%s: %s", names[i], why);
    rd_kafka_CreateTopics(client, topics, (size_t)topic_count, patient(client), queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 300000);
    if (!event)
        die("no answer to the creation of topics");
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    check(event, results, count);
    for (int i = 0; i < topic_count; i++)
        grow(client, queue, i, partitions);
}

static void delete(rd_kafka_t *client, rd_kafka_queue_t *queue) {
    rd_kafka_DeleteTopic_t **topics = calloc((size_t)topic_count, sizeof *topics);
    for (int i = 0; i < topic_count; i++)
        topics[i] = rd_kafka_DeleteTopic_new(names[i]);
    rd_kafka_DeleteTopics(client, topics, (size_t)topic_count, patient(client), queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 300000);
    if (!event)
        die("no answer to the deletion of topics");
    size_t count;
    const rd_kafka_topic_result_t **results =
        rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    check(event, results, count);
}

static int all_led(rd_kafka_t *client, const char *name, int partitions) {
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *topic = topic_new(client, name);
    rd_kafka_resp_err_t error = rd_kafka_metadata(client, 0, topic, &metadata, 60000);
    rd_kafka_topic_destroy(topic);
    if (error)
        return 0;
    int led = 0;
    if (metadata->topic_cnt == 1)
        for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
            led += metadata->topics[0].partitions[i].leader >= 0;
    rd_kafka_metadata_destroy(metadata);
    return led == partitions;
}

int main(int argc, char **argv) {
    if (argc < 4)
        die("usage: topics BOOTSTRAP create|delete NAME [PARTITIONS] [TOPICS]");
    rd_kafka_conf_t *conf = configure(argv[1], 0, NULL);
    set(conf, "socket.timeout.ms", "300000");
    rd_kafka_t *client = client_new(RD_KAFKA_PRODUCER, conf);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    int is_creation = !strcmp(argv[2], "create");
    int partitions = is_creation && argc > 4 ? atoi(argv[4]) : 1;
    int count_at = is_creation ? 5 : 4;
    name_topics(argv[3], argc > count_at ? atoi(argv[count_at]) : 0);
    const struct rd_kafka_metadata *metadata;
    if (!rd_kafka_metadata(client, 0, NULL, &metadata, 60000))
        rd_kafka_metadata_destroy(metadata);
    uint64_t start = now_ns();
    if (is_creation)
        create(client, queue, partitions);
    else
        delete(client, queue);
    double reply = (double)(now_ns() - start) / 1e9;
    for (int i = 0; is_creation && i < topic_count; i++)
        while (!all_led(client, names[i], partitions))
            usleep(1000);
    printf("{\"reply_s\":%.4f,\"leaders_s\":%.4f}\n", reply, (double)(now_ns() - start) / 1e9);
    fflush(stdout);
    _exit(0);
}
