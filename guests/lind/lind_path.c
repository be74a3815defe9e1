#include "lind_path.h"

#include "lind_abi.h"
#include "lind_rt.h"

enum { NAME_MAX_BYTES = 255 };

int lind_path_join(char *out, const char *base, const char *path, int *how)
{
    size_t floor = 0, length = 0; // bytes of out, the root being none; it never gets shorter than floor
    int kind = 0;
    if (how)
        *how = 0;
    if (!*path)
        return -LIND_ENOENT;
    if (*path != '/') {
        length = strcmp(base, "/") == 0 ? 0 : strlen(base);
        if (length >= LIND_PATH_MAX)
            return -LIND_ENAMETOOLONG;
        memcpy(out, base, length);
        floor = length;
    }
    bool relative = *path != '/';
    while (*path) {
        if (*path == '/') {
            path++;
            kind |= LIND_PATH_IS_DIR;
            continue;
        }
        size_t n = 0;
        while (path[n] && path[n] != '/')
            n++;
        kind = 0;
        if (n == 1 && path[0] == '.') {
            kind = LIND_PATH_IS_DIR | LIND_PATH_IS_DOTS;
        } else if (n == 2 && path[0] == '.' && path[1] == '.') {
            kind = LIND_PATH_IS_DIR | LIND_PATH_IS_DOTS;
            if (length == floor && relative)
                return -LIND_EXDEV;
            while (length > floor && out[--length] != '/')
                ;
        } else {
            if (n > NAME_MAX_BYTES || n + 1 > LIND_PATH_MAX - 1 - length)
                return -LIND_ENAMETOOLONG;
            out[length++] = '/';
            memcpy(out + length, path, n);
            length += n;
        }
        path += n;
    }
    if (length == 0)
        out[length++] = '/';
    out[length] = 0;
    if (how)
        *how = kind;
    return 0;
}

bool lind_path_beneath(const char *prefix, const char *path)
{
    size_t n = strcmp(prefix, "/") == 0 ? 0 : strlen(prefix);
    return strncmp(prefix, path, n) == 0 && (path[n] == 0 || path[n] == '/');
}
