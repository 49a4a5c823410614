/* What all load programs share: clocks, percentiles, settings, one JSON object as the result.
 *
 * Each program takes its addresses first and then settings: `load.NAME=VALUE` is its own, any other
 * `name=value` goes to librdkafka as it is. Times are of CLOCK_MONOTONIC, in nanoseconds, so that those
 * of several processes compare. Whatever fails ends the program with status 1 and a sentence.
 */
#ifndef LOAD_H
#define LOAD_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull

static inline void die(const char *format, ...) {
    va_list parts;
    va_start(parts, format);
    vfprintf(stderr, format, parts);
    va_end(parts);
    fputc('\n', stderr);
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* Sleeps until then, by the same clock. */
static inline void wait_until(uint64_t due) {
    struct timespec at = {.tv_sec = (time_t)(due / SECOND), .tv_nsec = (long)(due % SECOND)};
    while (now_ns() < due)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

/* Seconds that this process has computed, in user space and in the kernel. */
static inline double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* The value of `load.NAME`, or `otherwise`. */
static inline const char *text_setting(int count, char **settings, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int i = 0; i < count; i++)
        if (!strncmp(settings[i], "load.", 5) && !strncmp(settings[i] + 5, name, length) &&
            settings[i][5 + length] == '=')
            return settings[i] + 6 + length;
    return otherwise;
}

static inline double number_setting(int count, char **settings, const char *name, double otherwise) {
    const char *text = text_setting(count, settings, name, NULL);
    return text ? atof(text) : otherwise;
}

/* Durations, each added once, by any thread. What does not fit is dropped: see `stamps_new`. */
struct stamps {
    uint64_t *ns;
    size_t max;
    atomic_size_t count;
};

static inline struct stamps *stamps_new(size_t max) {
    struct stamps *stamps = calloc(1, sizeof *stamps);
    if (stamps) {
        stamps->ns = malloc(sizeof *stamps->ns * (max + 1));
        stamps->max = max;
    }
    if (!stamps || !stamps->ns)
        die("no memory for %zu durations", max);
    return stamps;
}

static inline void stamps_add(struct stamps *stamps, uint64_t ns) {
    size_t at = atomic_fetch_add(&stamps->count, 1);
    if (at < stamps->max)
        stamps->ns[at] = ns;
}

static inline int by_size(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Prints `"NAME_n": …, "NAME_p50_us": …` and so on, with a comma behind. */
static inline void stamps_print(struct stamps *stamps, const char *name) {
    static const struct { const char *label; double share; } ranks[] = {
        {"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1.0}};
    size_t count = atomic_load(&stamps->count);
    if (count > stamps->max)
        count = stamps->max;
    qsort(stamps->ns, count, sizeof *stamps->ns, by_size);
    printf("\"%s_n\":%zu,", name, count);
    for (size_t i = 0; count && i < sizeof ranks / sizeof *ranks; i++)
        printf("\"%s_%s_us\":%.1f,", name, ranks[i].label,
               (double)stamps->ns[(size_t)((double)(count - 1) * ranks[i].share)] / 1e3);
}

#endif
