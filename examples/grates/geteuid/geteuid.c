// geteuid [UID]: a grate that answers geteuid(2) with UID (1000 if not said), whoever asks. It is the least that a grate can
// do, and what Lind's published benchmark measures: one call from a cage through a grate and back.
#include "lind.h"
#include "lind_rt.h"

LIND_GRATE;

static int uid = 1000; // immutable once it serves

LIND_HANDLER(geteuid)
{
    (void)call;
    return uid;
}

int main(int argc, char **argv)
{
    uint64_t number = 1000, child = lind_child_cage();
    if (argc > 2 || (argc == 2 && !lind_parse_u64(argv[1], INT32_MAX, &number))) {
        lind_complain("usage: geteuid [UID]    0 to 2147483647: a result has 31 bits\n", NULL);
        return 2;
    }
    uid = (int)number;
    if (child == 0) {
        lind_complain("geteuid: this is a grate: start it with lindbridge run --grate\n", NULL);
        return 2;
    }
    if (lind_register_handler(child, LIND_SYS_GETEUID, geteuid) != 0) {
        lind_complain("geteuid: cannot register a handler\n", NULL);
        return 1;
    }
    if (lind_grate_serve() < 0) {
        lind_complain("geteuid: cannot serve\n", NULL);
        return 1;
    }
    return 0;
}
