// lind-geteuid [TIMES]: calls geteuid(2) TIMES times (once if not said) and prints what it answered and the nanoseconds that
// a call took: native, or through the grates above which it is stacked. Exits with 1 if two answers differ.
#include "lind.h"
#include "lind_rt.h"

int main(int argc, char **argv)
{
    uint64_t times = 1;
    if (argc > 2 || (argc == 2 && (!lind_parse_u64(argv[1], 1000000000, &times) || times == 0))) {
        lind_complain("usage: lind-geteuid [TIMES]    1 to 1000000000\n", NULL);
        return 2;
    }
    int uid = lind_syscall0(LIND_SYS_GETEUID);
    uint64_t start = lind_clock_ns(LIND_CLOCK_MONOTONIC);
    for (uint64_t i = 1; i < times; i++)
        if (lind_syscall0(LIND_SYS_GETEUID) != uid) {
            lind_complain("lind-geteuid: two answers\n", NULL);
            return 1;
        }
    uint64_t ns = lind_clock_ns(LIND_CLOCK_MONOTONIC) - start;
    char buffer[128];
    lind_text_t line = LIND_TEXT(buffer);
    lind_put(&line, "euid ");
    lind_put_i64(&line, uid);
    lind_put(&line, ", ns ");
    lind_put_fixed(&line, times > 1 ? ns * 10 / (times - 1) : 0, 1);
    lind_put(&line, "\n");
    return lind_flush(&line, 1) ? 0 : 1;
}
