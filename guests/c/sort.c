// sort DIR [MEGABYTES [RUN_MEGABYTES]]: an external merge sort over several directories below DIR, which must exist.
//
// It makes DIR/input/records.dat with MEGABYTES (100 if not said) of 100-byte records in a fixed random order, reads it in
// runs of RUN_MEGABYTES (8), sorts each in memory and writes it to DIR/runs/N/run.dat, merges the runs into
// DIR/output/sorted.dat, removes the runs, reads the output back and checks that it is in order and has every record of the
// input. It prints the sums, which depend on MEGABYTES alone: a build for the host must print the same.
//
// Exits with 0; on a failure it prints what failed and exits with 1.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RECORD_BYTES = 100,
    KEY_BYTES = 10,
    MAX_RUNS = 512,
    BUFFER_RECORDS = 1024,
    PATH_BYTES = 512,
};

typedef struct {
    unsigned char bytes[RECORD_BYTES];
} record_t;

// A file read or written through a buffer of whole records.
typedef struct {
    int fd;
    size_t next, count; // records: the next one to hand out, and how many are in the buffer
    char path[PATH_BYTES];
    record_t buffer[BUFFER_RECORDS];
} stream_t;

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "sort: %s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

static void wrong(const char *what, const char *path)
{
    fprintf(stderr, "sort: %s: %s\n", path, what);
    exit(1);
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p)
        fail("allocate", "memory");
    return p;
}

// Writes dir/name to out, PATH_BYTES long.
static void under(char *out, const char *dir, const char *name)
{
    if (snprintf(out, PATH_BYTES, "%s/%s", dir, name) >= PATH_BYTES)
        wrong("too long a path", dir);
}

static void make_dir(const char *path)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        fail("mkdir", path);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t hash_record(const record_t *r)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < RECORD_BYTES; i++)
        h = (h ^ r->bytes[i]) * 0x100000001b3u;
    return h;
}

// Fills the whole buffer, or as much as the file still has; answers the bytes.
static size_t read_full(int fd, void *to, size_t bytes, const char *path)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = read(fd, (char *)to + done, bytes - done);
        if (n < 0)
            fail("read", path);
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static void write_full(int fd, const void *from, size_t bytes, const char *path)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, (const char *)from + done, bytes - done);
        if (n < 0)
            fail("write", path);
        done += (size_t)n;
    }
}

static stream_t *stream_open(const char *path, int flags)
{
    stream_t *s = allocate(sizeof *s);
    s->fd = open(path, flags, 0644);
    if (s->fd < 0)
        fail("open", path);
    s->next = s->count = 0;
    snprintf(s->path, sizeof s->path, "%s", path); // for messages: a cut one is good enough
    return s;
}

// The next record, or NULL at the end.
static const record_t *stream_peek(stream_t *s)
{
    if (s->next == s->count) {
        size_t bytes = read_full(s->fd, s->buffer, sizeof s->buffer, s->path);
        if (bytes % RECORD_BYTES != 0)
            wrong("ends within a record", s->path);
        s->next = 0;
        s->count = bytes / RECORD_BYTES;
    }
    return s->count == 0 ? NULL : &s->buffer[s->next];
}

static void stream_flush(stream_t *s)
{
    write_full(s->fd, s->buffer, s->count * RECORD_BYTES, s->path);
    s->count = 0;
}

static void stream_put(stream_t *s, const record_t *r)
{
    s->buffer[s->count++] = *r;
    if (s->count == BUFFER_RECORDS)
        stream_flush(s);
}

static void stream_close(stream_t *s)
{
    if (close(s->fd) != 0)
        fail("close", s->path);
    free(s);
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, RECORD_BYTES);
}

// Writes the input and answers the sum of its records' hashes, which no order changes.
static uint64_t generate(const char *path, uint64_t records)
{
    stream_t *out = stream_open(path, O_CREAT | O_TRUNC | O_WRONLY);
    uint64_t state = 1, sum = 0;
    record_t r;
    for (uint64_t i = 0; i < records; i++) {
        for (int k = 0; k < KEY_BYTES; k++)
            r.bytes[k] = (unsigned char)(' ' + next_random(&state) % 95);
        char text[RECORD_BYTES - KEY_BYTES + 1];
        snprintf(text, sizeof text, " record %020" PRIu64 " %060" PRIu64 "\n", i, next_random(&state));
        memcpy(r.bytes + KEY_BYTES, text, sizeof text - 1);
        sum += hash_record(&r);
        stream_put(out, &r);
    }
    stream_flush(out);
    stream_close(out);
    return sum;
}

static void run_path(char *out, const char *dir, int run, int with_file)
{
    char name[64];
    snprintf(name, sizeof name, with_file ? "runs/%d/run.dat" : "runs/%d", run);
    under(out, dir, name);
}

// Cuts the input into sorted runs and answers how many.
static int make_runs(const char *dir, const char *input, uint64_t run_records)
{
    record_t *records = allocate((size_t)run_records * RECORD_BYTES);
    int in = open(input, O_RDONLY);
    if (in < 0)
        fail("open", input);
    int runs = 0;
    for (;;) {
        size_t bytes = read_full(in, records, (size_t)run_records * RECORD_BYTES, input);
        if (bytes == 0)
            break;
        if (bytes % RECORD_BYTES != 0)
            wrong("ends within a record", input);
        if (runs == MAX_RUNS)
            wrong("too many runs: make them larger", input);
        qsort(records, bytes / RECORD_BYTES, RECORD_BYTES, compare);
        char path[PATH_BYTES];
        run_path(path, dir, runs, 0);
        make_dir(path);
        run_path(path, dir, runs, 1);
        int out = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
        if (out < 0)
            fail("create", path);
        write_full(out, records, bytes, path);
        if (close(out) != 0)
            fail("close", path);
        runs++;
    }
    close(in);
    free(records);
    return runs;
}

// Restores the heap below i: heap[0] has the smallest next record.
static void sift_down(stream_t **heap, int n, int i)
{
    for (;;) {
        int least = i;
        for (int child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (compare(stream_peek(heap[child]), stream_peek(heap[least])) < 0)
                least = child;
        if (least == i)
            return;
        stream_t *t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

static void merge(const char *dir, const char *output, int runs)
{
    stream_t *heap[MAX_RUNS];
    char path[PATH_BYTES];
    for (int i = 0; i < runs; i++) {
        run_path(path, dir, i, 1);
        heap[i] = stream_open(path, O_RDONLY); // a run is never empty
    }
    for (int i = runs / 2 - 1; i >= 0; i--)
        sift_down(heap, runs, i);
    stream_t *out = stream_open(output, O_CREAT | O_TRUNC | O_WRONLY);
    for (int left = runs; left > 0;) {
        stream_put(out, stream_peek(heap[0]));
        heap[0]->next++;
        if (!stream_peek(heap[0])) {
            stream_close(heap[0]);
            heap[0] = heap[--left];
        }
        sift_down(heap, left, 0);
    }
    stream_flush(out);
    if (fsync(out->fd) != 0)
        fail("fsync", output);
    stream_close(out);
    for (int i = 0; i < runs; i++) {
        run_path(path, dir, i, 1);
        if (unlink(path) != 0)
            fail("unlink", path);
        run_path(path, dir, i, 0);
        if (rmdir(path) != 0)
            fail("rmdir", path);
    }
}

// Checks the order and answers the sum of hashes; *chain is a hash of the whole file, order and all.
static uint64_t check(const char *output, uint64_t records, uint64_t *chain)
{
    stream_t *in = stream_open(output, O_RDONLY);
    uint64_t sum = 0, count = 0;
    record_t last;
    memset(&last, 0, sizeof last);
    *chain = 0;
    for (const record_t *r; (r = stream_peek(in)) != NULL; in->next++) {
        if (compare(&last, r) > 0)
            wrong("not in order", output);
        last = *r;
        uint64_t h = hash_record(r);
        sum += h;
        *chain = (*chain ^ h) * 0x100000001b3u;
        count++;
    }
    stream_close(in);
    if (count != records)
        wrong("records lost or added", output);
    return sum;
}

int main(int argc, char **argv)
{
    long megabytes = argc > 2 ? atol(argv[2]) : 100;
    long run_megabytes = argc > 3 ? atol(argv[3]) : 8;
    if (argc < 2 || megabytes < 1 || megabytes > 2000 || run_megabytes < 1 || run_megabytes > 1000) {
        fprintf(stderr, "usage: sort DIR [MEGABYTES [RUN_MEGABYTES]]    1 to 2000, 1 to 1000\n");
        return 2;
    }
    const char *dir = argv[1];
    static const char *const dirs[] = {"input", "runs", "output"};
    char path[PATH_BYTES], input[PATH_BYTES], output[PATH_BYTES];
    for (int i = 0; i < 3; i++) {
        under(path, dir, dirs[i]);
        make_dir(path);
    }
    under(input, dir, "input/records.dat");
    under(output, dir, "output/sorted.dat");

    uint64_t records = (uint64_t)megabytes * 1000000 / RECORD_BYTES;
    uint64_t in_sum = generate(input, records);
    printf("made %" PRIu64 " records, sum %016" PRIx64 "\n", records, in_sum);
    int runs = make_runs(dir, input, (uint64_t)run_megabytes * 1000000 / RECORD_BYTES);
    printf("sorted %d runs\n", runs);
    merge(dir, output, runs);
    uint64_t chain, out_sum = check(output, records, &chain);
    if (out_sum != in_sum)
        wrong("not the records of the input", output);
    printf("merged, chain %016" PRIx64 "\n", chain);
    return 0;
}
