/* Microseconds, counted in buckets that are at most 1/64 of their value wide; the twin of histogram.py. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SUB_BITS = 6, SUB = 1 << SUB_BITS, OCTAVES = 36 };

struct histogram {
    uint64_t total, counts[(OCTAVES + 1) * SUB];
};

static inline void histogram_clear(struct histogram *h) { memset(h, 0, sizeof *h); }

/* Below 2 * SUB each value is a bucket; from there on each octave has SUB of them. */
static inline void histogram_add(struct histogram *h, uint64_t value) {
    int shift = value < 2 * SUB ? 0 : 63 - __builtin_clzll(value) - SUB_BITS;
    size_t index = (size_t)shift * SUB + (size_t)(value >> shift), last = sizeof h->counts / sizeof *h->counts - 1;
    h->counts[index < last ? index : last]++;
    h->total++;
}

/* The lowest value of a bucket. */
static inline uint64_t histogram_value(size_t index) {
    size_t shift = index < 2 * SUB ? 0 : index / SUB - 1;
    return (uint64_t)(index - shift * SUB) << shift;
}

static inline uint64_t histogram_quantile(const struct histogram *h, double share) {
    uint64_t seen = 0;
    for (size_t i = 0; i < sizeof h->counts / sizeof *h->counts; i++)
        if ((seen += h->counts[i]) >= share * (double)h->total && h->counts[i]) return histogram_value(i);
    return 0;
}

/* A line: `VALUE:COUNT,...`, `-` if there is nothing. */
static inline void histogram_print(const struct histogram *h) {
    const char *between = "";
    for (size_t i = 0; i < sizeof h->counts / sizeof *h->counts; i++)
        if (h->counts[i]) {
            printf("%s%llu:%llu", between, (unsigned long long)histogram_value(i), (unsigned long long)h->counts[i]);
            between = ",";
        }
    puts(h->total ? "" : "-");
}
