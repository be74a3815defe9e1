// chaos: a grate that delays system calls, makes them fail, and kills the program above it or itself, at random but by a
// seed: the n-th call that it sees has the same fate in each run with the same options. README.md has the manual.
#include "lind.h"
#include "lind_calls.h"
#include "lind_rt.h"

LIND_GRATE;

enum { PER_MILLION = 1000000, MAX_DELAY_US = 10000000, MAX_ERRORS = 16 };

// What may befall a call, and how often in a million. Immutable once it serves.
static uint32_t error_rate, delay_rate, kill_caller_rate, kill_self_rate;
static int errors[MAX_ERRORS] = {LIND_EIO}; // one of them is answered
static uint32_t error_count = 1;
static uint64_t delay_us, seed = 1, spared;
static bool by_trap, chosen[LIND_EACH_CALL_COUNT];

// Calls seen so far, and what befell them. Atomic.
static _Atomic uint64_t seen, failed, delayed, killed;

static uint64_t add(_Atomic uint64_t *to, uint64_t n)
{
    return __c11_atomic_fetch_add(to, n, __ATOMIC_RELAXED);
}

// A number that depends on x alone, each bit on every bit of it (the finalizer of SplitMix64).
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

// The which-th random number of the n-th call.
static uint64_t draw(uint64_t n, uint64_t which)
{
    return mix(mix(seed + n * UINT64_C(0x9e3779b97f4a7c15)) + which * UINT64_C(0xd1342543de82ef95));
}

static bool befalls(uint32_t rate, uint64_t n, uint64_t which)
{
    return draw(n, which) % PER_MILLION < rate;
}

static void kill_self(void)
{
    lind_complain("chaos: ends itself\n", NULL);
    if (by_trap)
        __builtin_trap();
    lind_exit(1);
}

static int serve(uint32_t number, const lind_call_t *call)
{
    uint64_t n = add(&seen, 1);
    if (n >= spared) {
        if (befalls(delay_rate, n, 1)) {
            add(&delayed, 1);
            lind_sleep_ns(draw(n, 2) % (delay_us * 1000 + 1));
        }
        if (befalls(kill_self_rate, n, 3))
            kill_self();
        if (befalls(kill_caller_rate, n, 4)) {
            add(&killed, 1);
            // The answer is of no use to a program that is gone; if it may not be killed, the call fails at least.
            lind_syscall2(LIND_SYS_KILL, lind_num((int64_t)call->cage), lind_num(LIND_SIGKILL));
            return -LIND_EINTR;
        }
        if (befalls(error_rate, n, 5)) {
            add(&failed, 1);
            return -errors[draw(n, 6) % error_count];
        }
    }
    return lind_forward(number, call);
}

LIND_NUMBERED_HANDLERS(serve);

// A rate: percent with up to four decimals, such as 5, 0.25 or 100. Parts in a million in *rate.
static bool parse_rate(const char *text, uint32_t *rate)
{
    uint64_t whole = 0, scale = PER_MILLION / 100, value;
    size_t n = 0;
    for (; text[n] >= '0' && text[n] <= '9' && n < 3; n++)
        whole = whole * 10 + (uint64_t)(text[n] - '0');
    if (n == 0)
        return false;
    value = whole * scale;
    if (text[n] == '.') {
        n++;
        if (!text[n])
            return false;
        for (; text[n] >= '0' && text[n] <= '9'; n++) {
            scale /= 10;
            if (scale == 0)
                return false;
            value += (uint64_t)(text[n] - '0') * scale;
        }
    }
    if (text[n] || value > PER_MILLION)
        return false;
    *rate = (uint32_t)value;
    return true;
}

// Cuts text at the first c, and answers what is behind it, or NULL if there is no c.
static char *cut(char *text, char c)
{
    char *at = strchr(text, c);
    if (!at)
        return NULL;
    *at = 0;
    return at + 1;
}

// RATE[:ERROR,...]
static bool parse_errors(char *text)
{
    char *list = cut(text, ':');
    if (!parse_rate(text, &error_rate))
        return false;
    for (error_count = list ? 0 : 1; list; error_count++) {
        char *next = cut(list, ',');
        int number = lind_errno_number(list);
        if (number < 0 || error_count == MAX_ERRORS)
            return false;
        errors[error_count] = number;
        list = next;
    }
    return true;
}

// RATE:MICROSECONDS
static bool parse_delay(char *text)
{
    char *most = cut(text, ':');
    return most && parse_rate(text, &delay_rate) && lind_parse_u64(most, MAX_DELAY_US, &delay_us);
}

// RATE[:trap]
static bool parse_kill_self(char *text)
{
    char *how = cut(text, ':');
    by_trap = how != NULL;
    return parse_rate(text, &kill_self_rate) && (!how || strcmp(how, "trap") == 0);
}

// CALL,...
static bool parse_calls(char *list)
{
    for (int i = 0; i < LIND_EACH_CALL_COUNT; i++)
        chosen[i] = false;
    while (list) {
        char *next = cut(list, ',');
        int number = lind_call_number(list);
        if (number < 0 || number >= LIND_EACH_CALL_COUNT)
            return false;
        chosen[number] = true;
        list = next;
    }
    return true;
}

static int usage(void)
{
    lind_complain("usage: chaos [-s SEED] [-n CALLS] [-c CALL,...] [-e RATE[:ERROR,...]] [-d RATE:MICROSECONDS]\n"
                  "             [-k RATE] [-K RATE[:trap]]\n"
                  "  -s  the seed, 1 if not said                 -n  let this many calls pass first\n"
                  "  -c  the calls that it is about              -e  answer an error (EIO) in RATE percent of them\n"
                  "  -d  delay RATE percent, up to that long     -k  kill the caller in RATE percent\n"
                  "  -K  end this grate in RATE percent\n",
                  NULL);
    return 2;
}

static bool parse_option(char option, char *value)
{
    switch (option) {
    case 's':
        return lind_parse_u64(value, UINT64_MAX, &seed);
    case 'n':
        return lind_parse_u64(value, UINT64_MAX, &spared);
    case 'c':
        return parse_calls(value);
    case 'e':
        return parse_errors(value);
    case 'd':
        return parse_delay(value);
    case 'k':
        return parse_rate(value, &kill_caller_rate);
    case 'K':
        return parse_kill_self(value);
    }
    return false;
}

int main(int argc, char **argv)
{
    uint64_t child = lind_child_cage();
    // All but the calls that end a program: one that cannot end is nothing to learn from.
    for (int i = 0; i < LIND_EACH_CALL_COUNT; i++)
        chosen[i] = i != LIND_SYS_EXIT && i != LIND_SYS_EXIT_GROUP;
    for (int i = 1; i < argc; i += 2)
        if (argv[i][0] != '-' || !argv[i][1] || argv[i][2] || i + 1 == argc || !parse_option(argv[i][1], argv[i + 1]))
            return usage();
    if (child == 0) {
        lind_complain("chaos: this is a grate: start it with lindbridge run --grate\n", NULL);
        return 2;
    }
    for (uint32_t i = 0; i < LIND_EACH_CALL_COUNT; i++)
        if (chosen[i] && lind_register_handler(child, i, lind_numbered_handlers[i]) != 0) {
            lind_complain("chaos: cannot register handlers\n", NULL);
            return 1;
        }
    if (lind_grate_serve() < 0) {
        lind_complain("chaos: cannot serve\n", NULL);
        return 1;
    }
    char buffer[256];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "chaos: calls ");
    lind_put_u64(&line, add(&seen, 0));
    lind_put(&line, ", failed ");
    lind_put_u64(&line, add(&failed, 0));
    lind_put(&line, ", delayed ");
    lind_put_u64(&line, add(&delayed, 0));
    lind_put(&line, ", killed ");
    lind_put_u64(&line, add(&killed, 0));
    lind_put(&line, "\n");
    lind_flush(&line, 2);
    return 0;
}
