/* audit BOOTSTRAP TOPIC PARTITIONS LEDGER: reads a topic whole and compares it with the ledger of its producer.
 *
 * A record is lost when it was acknowledged and is not there; duplicated when it is there more than once. What was
 * sent and never acknowledged may be there or not. The ledger is what `produce load.ledger=FILE` wrote.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "kafka.h"

int main(int argc, char **argv) {
    if (argc != 5)
        die("usage: audit BOOTSTRAP TOPIC PARTITIONS LEDGER");
    long partitions = atol(argv[3]), open_partitions = partitions;
    struct stat about;
    int file = open(argv[4], O_RDONLY);
    if (file < 0 || fstat(file, &about))
        die("%s: cannot be read", argv[4]);
    size_t count = (size_t)about.st_size;
    uint8_t *acked = mmap(NULL, count, PROT_READ, MAP_SHARED, file, 0), *seen = calloc(count, 1);
    rd_kafka_conf_t *conf = configure(argv[1], 0, NULL);
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.partition.eof", "true");
    rd_kafka_t *client = client_new(RD_KAFKA_CONSUMER, conf);
    rd_kafka_topic_t *topic = topic_new(client, argv[2]);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    for (long p = 0; p < partitions; p++)
        rd_kafka_consume_start_queue(topic, (int32_t)p, RD_KAFKA_OFFSET_BEGINNING, queue);
    uint64_t last = now_ns();
    while (open_partitions > 0 && now_ns() - last < 30 * SECOND) {
        rd_kafka_message_t *message = rd_kafka_consume_queue(queue, 1000);
        if (!message)
            continue;
        last = now_ns();
        long number;
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
            open_partitions--;
        else if (!message->err && message->len >= sizeof number) {
            memcpy(&number, message->payload, sizeof number);
            if (number >= 0 && (size_t)number < count && seen[number] < 255)
                seen[number]++;
        }
        rd_kafka_message_destroy(message);
    }
    size_t all_acked = 0, all_seen = 0, lost = 0, duplicated = 0;
    for (size_t i = 0; i < count; i++) {
        all_acked += acked[i];
        all_seen += seen[i] > 0;
        lost += acked[i] && !seen[i];
        duplicated += seen[i] > 1;
    }
    printf("{\"acked\":%zu,\"seen\":%zu,\"lost\":%zu,\"duplicated\":%zu,\"unread_partitions\":%ld}\n", all_acked, all_seen,
           lost, duplicated, open_partitions);
    fflush(stdout);
    _exit(open_partitions > 0);
}
