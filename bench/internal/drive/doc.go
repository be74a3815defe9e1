// Package drive runs those that are compared, each in a process of its own, and speaks with them.
//
// A contestant reads requests from standard input, a line of words each, the last one the number of samples, and answers
// each on standard output with a line of JSON: a Reply. So all are measured the same way, inside their own process, one
// after the other, and none is disturbed by another one's threads or signal handlers. Descriptor 3 is the reading end of a
// pipe that nothing ever comes from: what a thread that is to be blocked in a read reads.
//
// What a contestant may be unable to do it announces with a Reply that has Armed, before it tries: when no further answer
// comes in time, the process is killed, and that is the result.
package drive
