// workers: threads that do real work together and then end by themselves.
//
//	workers [THREADS [THOUSANDS]]
//
// THREADS (4 if not said, 1 to 32) sort THOUSANDS * 1,024 numbers (64 if not said, at most 1,024): each sorts a part, then
// they merge the parts in rounds, with a barrier after each. Then each adds 10,000 times to one plain counter under a
// mutex. The first thread checks the order, the sum and the counter. Prints a line with the sum, which depends on
// THOUSANDS alone, and returns; exits with 1 if a check fails.
#include "rt.h"

enum { MAX_WORKERS = 32, MAX_THOUSANDS = 1024, ADDITIONS = 10000 };

static uint32_t numbers[MAX_THOUSANDS * 1024], merged[MAX_THOUSANDS * 1024];
static uint32_t count;
static int workers;

static rt_mutex_t counter_mu;
static uint32_t counter; // guarded by counter_mu

static _Atomic int arrived, round_number, finished;

static void barrier(void)
{
    int round = __c11_atomic_load(&round_number, __ATOMIC_SEQ_CST);
    if (__c11_atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST) + 1 == workers) {
        __c11_atomic_store(&arrived, 0, __ATOMIC_SEQ_CST);
        __c11_atomic_fetch_add(&round_number, 1, __ATOMIC_SEQ_CST);
        rt_wake_all(&round_number);
        return;
    }
    while (__c11_atomic_load(&round_number, __ATOMIC_SEQ_CST) == round)
        rt_wait(&round_number, round);
}

static void sift(uint32_t *a, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t largest = i;
        for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (a[child] > a[largest])
                largest = child;
        if (largest == i)
            return;
        uint32_t t = a[i];
        a[i] = a[largest];
        a[largest] = t;
        i = largest;
    }
}

static void heap_sort(uint32_t *a, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;)
        sift(a, n, i);
    while (n > 1) {
        uint32_t t = a[0];
        a[0] = a[--n];
        a[n] = t;
        sift(a, n, 0);
    }
}

// Where part i begins.
static uint32_t bound(int i)
{
    return i >= workers ? count : (uint32_t)((uint64_t)count * (uint32_t)i / (uint32_t)workers);
}

static void merge(const uint32_t *from, uint32_t *to, uint32_t low, uint32_t middle, uint32_t high)
{
    uint32_t a = low, b = middle;
    for (uint32_t i = low; i < high; i++)
        to[i] = b == high || (a < middle && from[a] <= from[b]) ? from[a++] : from[b++];
}

static void work(int index)
{
    heap_sort(numbers + bound(index), bound(index + 1) - bound(index));
    uint32_t *from = numbers, *to = merged;
    for (int width = 1; width < workers; width *= 2) {
        barrier();
        if (index % (2 * width) == 0)
            merge(from, to, bound(index), bound(index + width), bound(index + 2 * width));
        uint32_t *t = from;
        from = to;
        to = t;
    }
    for (int i = 0; i < ADDITIONS; i++) {
        rt_lock(&counter_mu);
        counter++;
        rt_unlock(&counter_mu);
    }
    __c11_atomic_fetch_add(&finished, 1, __ATOMIC_SEQ_CST);
    rt_wake_all(&finished);
}

static _Noreturn void fail(const char *what, int code)
{
    rt_write(2, "workers: ", what, "\n", NULL);
    wasi_proc_exit(code);
}

static const uint32_t *result(void)
{
    int rounds = 0;
    for (int width = 1; width < workers; width *= 2)
        rounds++;
    return rounds % 2 == 0 ? numbers : merged;
}

void rt_main(int argc, char **argv)
{
    workers = argc > 1 ? rt_number(argv[1]) : 4;
    int thousands = argc > 2 ? rt_number(argv[2]) : 64;
    if (workers < 1 || workers > MAX_WORKERS || thousands < 1 || thousands > MAX_THOUSANDS)
        fail("usage: workers [THREADS [THOUSANDS]]    1 to 32, 1 to 1024", 2);
    count = (uint32_t)thousands * 1024;
    uint32_t state = 1, sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        numbers[i] = state;
        sum += state;
    }
    for (int i = 0; i < workers; i++)
        if (rt_spawn(work, i) <= 0)
            fail("cannot spawn a thread", 71);
    for (;;) {
        int seen = __c11_atomic_load(&finished, __ATOMIC_SEQ_CST);
        if (seen == workers)
            break;
        rt_wait(&finished, seen);
    }
    const uint32_t *sorted = result();
    uint32_t sorted_sum = sorted[0];
    for (uint32_t i = 1; i < count; i++) {
        if (sorted[i - 1] > sorted[i])
            fail("not in order", 1);
        sorted_sum += sorted[i];
    }
    if (sorted_sum != sum)
        fail("numbers lost", 1);
    if (counter != (uint32_t)workers * ADDITIONS)
        fail("additions lost: the mutex does not exclude", 1);
    char n[2][12];
    rt_write(1, "workers: sorted ", rt_decimal(n[0], count), " numbers, sum ", rt_decimal(n[1], sum), "\n", NULL);
}
