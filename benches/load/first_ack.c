/* first_ack PORT TOPIC PARTITION [SECONDS]: when a broker listens, and when it first acknowledges a record.
 *
 * It is started before the broker, says `ready`, and tries without pause; the two times that it prints are of
 * CLOCK_MONOTONIC, for whoever started the broker to compare. It speaks the wire itself, without a library that
 * would wait between attempts: Metadata 4, which creates the topic, and Produce 3, the oldest that brokers of 4.x take.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "load.h"

static uint8_t request[4096], *response;
static size_t length;

static void put(uint64_t value, int bytes) {
    while (bytes--)
        request[length++] = (uint8_t)(value >> (8 * bytes));
}

static void put_at(size_t at, uint32_t value) {
    size_t end = length;
    length = at;
    put(value, 4);
    length = end;
}

static void put_text(const char *text) {
    put(strlen(text), 2);
    memcpy(request + length, text, strlen(text));
    length += strlen(text);
}

static uint32_t crc32c(const uint8_t *bytes, size_t count) {
    uint32_t crc = ~0u;
    while (count--) {
        crc ^= *bytes++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    }
    return ~crc;
}

static void begin(int api_key, int version) {
    length = 4;
    put((uint64_t)api_key, 2);
    put((uint64_t)version, 2);
    put(1, 4);
    put_text("first_ack");
}

/* Sends the request and reads the response whole. 0: the connection is lost. */
static size_t call(int socket) {
    static const size_t room = 64 << 20;
    put_at(0, (uint32_t)(length - 4));
    if (write(socket, request, length) != (ssize_t)length)
        return 0;
    size_t have = 0, need = 4;
    while (have < need) {
        ssize_t came = read(socket, response + have, room - have);
        if (came <= 0)
            return 0;
        have += (size_t)came;
        if (have >= 4)
            need = 4 + (size_t)ntohl(*(uint32_t *)response);
    }
    return need;
}

/* One batch of one record that holds `hello`. */
static void put_batch(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    put(0, 8);
    size_t length_at = length;
    put(0, 4), put(0, 4), put(2, 1);
    size_t crc_at = length;
    put(0, 4);
    size_t checked_at = length;
    put(0, 2), put(0, 4), put(ms, 8), put(ms, 8);
    put(UINT64_MAX, 8), put(UINT16_MAX, 2), put(UINT32_MAX, 4), put(1, 4);
    static const uint8_t record[] = {22, 0, 0, 0, 1, 10, 'h', 'e', 'l', 'l', 'o', 0};
    memcpy(request + length, record, sizeof record);
    length += sizeof record;
    put_at(length_at, (uint32_t)(length - length_at - 4));
    put_at(crc_at, crc32c(request + checked_at, length - checked_at));
}

/* The broker's error code for a produced record; -1: the connection is lost. */
static int produce(int socket, const char *topic, uint32_t partition) {
    begin(0, 3);
    put(UINT16_MAX, 2), put(UINT16_MAX, 2), put(30000, 4);
    put(1, 4), put_text(topic), put(1, 4), put(partition, 4);
    size_t bytes_at = length;
    put(0, 4);
    put_batch();
    put_at(bytes_at, (uint32_t)(length - bytes_at - 4));
    if (!call(socket))
        return -1;
    // Size, correlation, topics, name, partitions, index; then the error.
    size_t at = 4 + 4 + 4 + 2 + strlen(topic) + 4 + 4;
    return response[at] << 8 | response[at + 1];
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int handle = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(handle, (struct sockaddr *)&address, sizeof address)) {
        close(handle);
        return -1;
    }
    setsockopt(handle, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return handle;
}

int main(int argc, char **argv) {
    if (argc < 4)
        die("usage: first_ack PORT TOPIC PARTITION [SECONDS]");
    uint64_t give_up = now_ns() + (uint64_t)(argc > 4 ? atoi(argv[4]) : 60) * SECOND;
    uint64_t listens = 0;
    int handle = -1, error = -1;
    response = malloc(64 << 20);
    puts("ready");
    fflush(stdout);
    while (now_ns() < give_up) {
        if (handle < 0 && (handle = connect_to(atoi(argv[1]))) < 0) {
            usleep(200);
            continue;
        }
        if (!listens)
            listens = now_ns();
        begin(3, 4);
        put(1, 4), put_text(argv[2]), put(1, 1);
        error = call(handle) ? produce(handle, argv[2], (uint32_t)atoi(argv[3])) : -1;
        if (!error) {
            printf("{\"listens_ns\":%" PRIu64 ",\"acked_ns\":%" PRIu64 "}\n", listens, now_ns());
            return 0;
        }
        if (error < 0)
            close(handle), handle = -1;
        usleep(200);
    }
    die("no record was acknowledged in time; the last error was %d", error);
}
