// lind_calls.h: names of calls and errors, and the shape of calls' arguments. Link with lind_calls.c (and lind_start.c).
#ifndef LIND_CALLS_H
#define LIND_CALLS_H

#include <stdint.h>

// A call: its name, or NULL if the number has none; and a letter for each argument, or NULL if that is not known here.
//
//	f a descriptor   d a signed number   u an unsigned number   x a number in hexadecimal   o a mode, in octal
//	p a pointer      s a string, most often a path              w bytes that the call reads, as many as the next argument
//	r bytes that the call fills, as many as its result
typedef struct {
    const char *name, *args;
} lind_call_info_t;

lind_call_info_t lind_call_info(uint32_t number);

// The number of the call that has the name, or that the text is in decimal; -1 if there is none below LIND_CALL_MAX.
int lind_call_number(const char *name);

// The name of an error that a call answered, or NULL if result is none.
const char *lind_errno_name(int result);

// The error number, above 0, that has the name ("EIO") or that the text is in decimal; -1 if there is none.
int lind_errno_number(const char *name);

#endif
