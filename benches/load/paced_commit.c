/* paced_commit FILE RATE SECONDS: writes RATE records of 1 KiB a second and waits for fdatasync: what the disk itself
 * makes of so many records that are acknowledged when they are on it.
 *
 * The loop is open, as that of `latency`: a record counts from when it was due, and all that are due are written and
 * synced together. They are written over zeros that were synced before: no journal is in the way.
 */
#include <fcntl.h>
#include <sys/prctl.h>

#include "load.h"

#define RECORD 1024ul
#define PIECE (1ul << 20)

int main(int argc, char **argv) {
    if (argc != 4)
        die("usage: paced_commit FILE RATE SECONDS");
    double rate = atof(argv[2]);
    size_t count = (size_t)(rate * atof(argv[3]));
    int file = open(argv[1], O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (file < 0)
        die("%s: cannot be made", argv[1]);
    char *piece = calloc(1, PIECE);
    for (size_t at = 0; at < count * RECORD; at += PIECE)
        if (pwrite(file, piece, PIECE, (off_t)at) != (ssize_t)PIECE)
            die("%s: cannot be written", argv[1]);
    if (fdatasync(file))
        die("%s: cannot be synced", argv[1]);
    memset(piece, 'x', PIECE);
    prctl(PR_SET_TIMERSLACK, 1);
    struct stamps *stamps = stamps_new(count);
    uint64_t start = now_ns() + SECOND / 100, between = (uint64_t)(1e9 / rate);
    for (size_t next = 0; next < count;) {
        wait_until(start + next * between);
        size_t end = (size_t)((now_ns() - start) / between) + 1;
        if (end > count)
            end = count;
        if (end > next + PIECE / RECORD)
            end = next + PIECE / RECORD;
        size_t bytes = (end - next) * RECORD;
        if (pwrite(file, piece, bytes, (off_t)(next * RECORD)) != (ssize_t)bytes || fdatasync(file))
            die("%s: cannot be written", argv[1]);
        uint64_t now = now_ns();
        for (; next < end; next++)
            stamps_add(stamps, now - (start + next * between));
    }
    unlink(argv[1]);
    printf("{");
    stamps_print(stamps, "ack");
    printf("\"records\":%zu}\n", count);
    return 0;
}
