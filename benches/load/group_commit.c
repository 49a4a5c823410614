/* group_commit FILE BYTES TOTAL: appends BYTES and waits for fdatasync, until TOTAL: what the disk itself can do.
 *
 * This is the limit of a broker that acknowledges only what is on disk, with BYTES gathered per sync.
 */
#include <fcntl.h>

#include "load.h"

int main(int argc, char **argv) {
    if (argc != 4)
        die("usage: group_commit FILE BYTES TOTAL");
    size_t bytes = (size_t)atoll(argv[2]), total = (size_t)atoll(argv[3]), at = 0;
    char *piece = malloc(bytes);
    memset(piece, 'x', bytes);
    int file = open(argv[1], O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (file < 0)
        die("%s: cannot be made", argv[1]);
    struct stamps *stamps = stamps_new(total / bytes + 1);
    uint64_t start = now_ns();
    for (; at < total; at += bytes) {
        uint64_t before = now_ns();
        if (pwrite(file, piece, bytes, (off_t)at) != (ssize_t)bytes || fdatasync(file))
            die("%s: cannot be written", argv[1]);
        stamps_add(stamps, now_ns() - before);
    }
    double took = (double)(now_ns() - start) / 1e9;
    unlink(argv[1]);
    printf("{");
    stamps_print(stamps, "commit");
    printf("\"bytes\":%zu,\"seconds\":%.4f,\"mb_per_s\":%.3f}\n", at, took, (double)at / took / 1e6);
    return 0;
}
