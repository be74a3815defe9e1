// strace [-c] [-e [!]CALL,...] [-s BYTES]: a grate that prints each system call of the program above it, as strace(1) does,
// and at the end how often each was made, how long it took and how often it failed. README.md has the manual.
//
// Every call of Linux has a handler of its own, since a handler is not told which call it serves. What a pointer points to
// is only ever copied in, into buffers of fixed size, and printed with escapes: a hostile program can print nonsense, but
// no control characters, and cannot make this grate read or write anything else.
#include "lind.h"
#include "lind_calls.h"
#include "lind_rt.h"

LIND_GRATE;

enum {
    LINE_BYTES = 4096,
    MAX_SHOWN = 512, // bytes of a string that -s can ask for
};

// What the summary knows of a call. The numbers are atomic; each is counted by itself.
typedef struct {
    _Atomic uint64_t calls, errors, ns;
} count_t;

static count_t counts[LIND_EACH_CALL_COUNT];

// The options. Immutable once it serves.
static bool summary_only;
static size_t shown = 32; // bytes of a string that are printed
static bool chosen[LIND_EACH_CALL_COUNT];

static uint64_t add(_Atomic uint64_t *to, uint64_t n)
{
    return __c11_atomic_fetch_add(to, n, __ATOMIC_RELAXED);
}

static uint64_t load(_Atomic uint64_t *from)
{
    return __c11_atomic_load(from, __ATOMIC_RELAXED);
}

static void put_escaped(lind_text_t *line, const char *bytes, size_t n)
{
    lind_put_char(line, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\') {
            lind_put_char(line, '\\');
            lind_put_char(line, (char)c);
        } else if (c == '\n') {
            lind_put(line, "\\n");
        } else if (c == '\t') {
            lind_put(line, "\\t");
        } else if (c >= ' ' && c < 0x7f) {
            lind_put_char(line, (char)c);
        } else {
            lind_put(line, "\\x");
            lind_put_char(line, "0123456789abcdef"[c >> 4]);
            lind_put_char(line, "0123456789abcdef"[c & 15]);
        }
    }
    lind_put_char(line, '"');
}

// The string at an argument, as far as it is shown; its address if it cannot be read.
static void put_string(lind_text_t *line, lind_arg_t from)
{
    char text[MAX_SHOWN + 1];
    int n = lind_copy_in_string(text, shown + 1, from);
    bool more = false;
    if (n == -LIND_ENAMETOOLONG) {
        // The beginning of a longer one.
        n = lind_copy_in(text, from, shown) == 0 ? (int)shown : -LIND_EFAULT;
        more = true;
    }
    if (n < 0) {
        lind_put_hex(line, from.value);
        return;
    }
    put_escaped(line, text, (size_t)n);
    if (more)
        lind_put(line, "...");
}

// bytes at an argument, as far as they are shown.
static void put_data(lind_text_t *line, lind_arg_t from, uint64_t bytes)
{
    char data[MAX_SHOWN];
    size_t n = bytes < shown ? (size_t)bytes : shown;
    if (lind_copy_in(data, from, n) != 0) {
        lind_put_hex(line, from.value);
        return;
    }
    put_escaped(line, data, n);
    if (n < bytes)
        lind_put(line, "...");
}

// An argument by the letter that lind_calls.h has for it. done says that the call has answered, with result; without it,
// what it will fill is not shown.
static void put_arg(lind_text_t *line, char kind, const lind_call_t *call, int i, bool done, int result)
{
    lind_arg_t a = call->arg[i];
    switch (kind) {
    case 'f':
        if ((int32_t)a.value == LIND_AT_FDCWD)
            lind_put(line, "AT_FDCWD");
        else
            lind_put_i64(line, (int32_t)a.value);
        break;
    case 'd':
        lind_put_i64(line, (int64_t)a.value);
        break;
    case 'u':
        lind_put_u64(line, a.value);
        break;
    case 'o':
        lind_put_octal(line, a.value);
        break;
    case 's':
        if (a.value == 0)
            lind_put(line, "NULL");
        else
            put_string(line, a);
        break;
    case 'w':
        put_data(line, a, i < 5 ? call->arg[i + 1].value : 0);
        break;
    case 'r':
        if (done && result >= 0)
            put_data(line, a, (uint64_t)result);
        else
            lind_put_hex(line, a.value);
        break;
    case 'p':
        if (a.value == 0)
            lind_put(line, "NULL");
        else
            lind_put_hex(line, a.value);
        break;
    default:
        lind_put_hex(line, a.value);
        break;
    }
}

static void put_name(lind_text_t *line, uint32_t number)
{
    const char *name = lind_call_info(number).name;
    if (name) {
        lind_put(line, name);
    } else {
        lind_put(line, "call_");
        lind_put_u64(line, number);
    }
}

static void print_call(uint32_t number, const lind_call_t *call, bool done, int result, uint64_t ns)
{
    char buffer[LINE_BYTES];
    lind_text_t line = LIND_TEXT(buffer);
    const char *args = lind_call_info(number).args;
    line.room -= 128; // for the result, whatever the arguments are
    lind_put_char(&line, '[');
    lind_put_u64(&line, call->cage);
    lind_put(&line, "] ");
    put_name(&line, number);
    lind_put_char(&line, '(');
    if (!args)
        args = "xxxxxx";
    for (int i = 0; i < 6 && args[i]; i++) {
        if (i > 0)
            lind_put(&line, ", ");
        put_arg(&line, args[i], call, i, done, result);
    }
    line.room += 128;
    lind_put(&line, ") = ");
    if (!done) {
        lind_put_char(&line, '?');
    } else {
        const char *error = lind_errno_name(result);
        lind_put_i64(&line, error ? -1 : result);
        if (error) {
            lind_put_char(&line, ' ');
            lind_put(&line, error);
        }
        lind_put(&line, " <");
        lind_put_fixed(&line, ns, 9);
        lind_put_char(&line, '>');
    }
    lind_put_char(&line, '\n');
    lind_flush(&line, 2);
}

// A call that does not come back to its caller when it succeeds.
static bool ends_caller(uint32_t number)
{
    return number == LIND_SYS_EXIT || number == LIND_SYS_EXIT_GROUP;
}

static int serve(uint32_t number, const lind_call_t *call)
{
    count_t *count = &counts[number];
    add(&count->calls, 1);
    if (!summary_only && ends_caller(number))
        print_call(number, call, false, 0, 0); // before: the program may have ended when it answers
    uint64_t start = lind_clock_ns(LIND_CLOCK_MONOTONIC);
    int result = lind_forward(number, call);
    uint64_t end = lind_clock_ns(LIND_CLOCK_MONOTONIC);
    uint64_t ns = end > start ? end - start : 0;
    add(&count->ns, ns);
    if (lind_errno_name(result))
        add(&count->errors, 1);
    if (!summary_only && !ends_caller(number))
        print_call(number, call, true, result, ns);
    return result;
}

LIND_NUMBERED_HANDLERS(serve);

// The call with the most time that was not printed yet, or -1.
static int next_row(const bool *printed)
{
    int best = -1;
    for (int i = 0; i < LIND_EACH_CALL_COUNT; i++)
        if (!printed[i] && load(&counts[i].calls) > 0 && (best < 0 || load(&counts[i].ns) > load(&counts[best].ns)))
            best = i;
    return best;
}

static void put_column(lind_text_t *line, uint64_t n, int places, size_t width)
{
    char digits[32];
    lind_text_t number = LIND_TEXT(digits);
    lind_put_fixed(&number, n, places);
    for (size_t i = number.length; i < width; i++)
        lind_put_char(line, ' ');
    lind_put_bytes(line, number.text, number.length);
    lind_put_char(line, ' ');
}

static void put_row(lind_text_t *line, uint64_t permyriad, uint64_t ns, uint64_t calls, uint64_t errors)
{
    put_column(line, permyriad, 2, 6);
    put_column(line, ns / 1000, 6, 11);
    put_column(line, calls ? ns / calls / 10 : 0, 2, 11);
    put_column(line, calls, 0, 9);
    if (errors)
        put_column(line, errors, 0, 9);
    else
        lind_put(line, "          ");
}

static void print_summary(void)
{
    static bool printed[LIND_EACH_CALL_COUNT]; // only main comes here
    char buffer[256];
    lind_text_t line = LIND_TEXT(buffer);
    uint64_t ns = 0, calls = 0, errors = 0;
    for (int i = 0; i < LIND_EACH_CALL_COUNT; i++) {
        ns += load(&counts[i].ns);
        calls += load(&counts[i].calls);
        errors += load(&counts[i].errors);
    }
    lind_put(&line, "% time     seconds  usecs/call     calls    errors syscall\n");
    lind_flush(&line, 2);
    for (int i; (i = next_row(printed)) >= 0;) {
        printed[i] = true;
        uint64_t spent = load(&counts[i].ns);
        // Parts of ten thousand. From two weeks on the product would overflow: then both are cut to what matters.
        int cut = ns >> 50 ? 14 : 0;
        put_row(&line, ns >> cut ? (spent >> cut) * 10000 / (ns >> cut) : 0, spent, load(&counts[i].calls),
                load(&counts[i].errors));
        put_name(&line, (uint32_t)i);
        lind_put_char(&line, '\n');
        lind_flush(&line, 2);
    }
    put_row(&line, calls ? 10000 : 0, ns, calls, errors);
    lind_put(&line, "total\n");
    lind_flush(&line, 2);
}

// Reads the list of -e, which it changes. False, with a complaint, if a call is unknown.
static bool choose(char *list)
{
    bool but = *list == '!';
    list += but;
    for (int i = 0; i < LIND_EACH_CALL_COUNT; i++)
        chosen[i] = but;
    for (char *name = list; name;) {
        char *comma = strchr(name, ',');
        if (comma)
            *comma = 0;
        int number = lind_call_number(name);
        if (number < 0 || number >= LIND_EACH_CALL_COUNT) {
            lind_complain("strace: no system call of Linux: ", name, "\n", NULL);
            return false;
        }
        chosen[number] = !but;
        name = comma ? comma + 1 : NULL;
    }
    return true;
}

static int usage(void)
{
    lind_complain("usage: strace [-c] [-e [!]CALL,...] [-s BYTES]\n"
                  "  -c  print the summary alone\n"
                  "  -e  only these calls, or with ! all but these: names or numbers\n"
                  "  -s  how many bytes of a string are printed, up to 512 (32)\n",
                  NULL);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t number, child = lind_child_cage();
    for (int i = 0; i < LIND_EACH_CALL_COUNT; i++)
        chosen[i] = true;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-c") == 0) {
            summary_only = true;
        } else if (strcmp(argv[i], "-e") == 0 && i + 1 < argc) {
            if (!choose(argv[++i]))
                return 2;
        } else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc && lind_parse_u64(argv[i + 1], MAX_SHOWN, &number)) {
            shown = (size_t)number;
            i++;
        } else {
            return usage();
        }
    }
    if (child == 0) {
        lind_complain("strace: this is a grate: start it with lindbridge run --grate\n", NULL);
        return 2;
    }
    for (uint32_t i = 0; i < LIND_EACH_CALL_COUNT; i++)
        if (chosen[i] && lind_register_handler(child, i, lind_numbered_handlers[i]) != 0) {
            lind_complain("strace: cannot register handlers\n", NULL);
            return 1;
        }
    if (lind_grate_serve() < 0) {
        lind_complain("strace: cannot serve\n", NULL);
        return 1;
    }
    print_summary();
    return 0;
}
