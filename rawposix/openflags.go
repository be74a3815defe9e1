package rawposix

import "golang.org/x/sys/unix"

// The open flags of Linux x86-64: see include/uapi/asm-generic/fcntl.h.
const (
	oAccmode   = 0o3
	oWronly    = 0o1
	oCreat     = 0o100
	oExcl      = 0o200
	oTrunc     = 0o1000
	oAppend    = 0o2000
	oNonblock  = 0o4000
	oDsync     = 0o10000
	oAsync     = 0o20000
	oDirect    = 0o40000
	oLargefile = 0o100000
	oDirectory = 0o200000
	oNofollow  = 0o400000
	oNoatime   = 0o1000000
	oCloexec   = 0o2000000
	oSyncBit   = 0o4000000 // with oDsync: O_SYNC, which is O_RSYNC too
	oPath      = 0o10000000
	oTmpfile   = 0o20000000
)

// openFlags relates the flags of guests to the host's. Those that are not in it are never passed on: O_ASYNC would
// signal this process, O_TMPFILE is refused, O_LARGEFILE goes without saying, and O_NOCTTY is always set. Immutable.
var openFlags = [...]struct{ guest, host uint32 }{
	{oCreat, unix.O_CREAT},
	{oExcl, unix.O_EXCL},
	{oTrunc, unix.O_TRUNC},
	{oAppend, unix.O_APPEND},
	{oNonblock, unix.O_NONBLOCK},
	{oDsync, unix.O_DSYNC},
	{oDirect, unix.O_DIRECT},
	{oDirectory, unix.O_DIRECTORY},
	{oNofollow, unix.O_NOFOLLOW},
	{oNoatime, unix.O_NOATIME},
	{oSyncBit, unix.O_SYNC &^ unix.O_DSYNC},
	{oPath, unix.O_PATH},
}

// toHostFlags are the host's flags for a guest's. The access mode has the same two bits everywhere.
func toHostFlags(guest uint32) int {
	host := uint32(0)
	for _, f := range &openFlags {
		if guest&f.guest != 0 {
			host |= f.host
		}
	}
	return int(host | guest&oAccmode)
}

// toGuestFlags are a guest's flags for those that the host's F_GETFL answers.
func toGuestFlags(host int) uint32 {
	guest := uint32(0)
	for _, f := range &openFlags {
		if uint32(host)&f.host != 0 {
			guest |= f.guest
		}
	}
	if host&hostLargefile != 0 {
		guest |= oLargefile
	}
	return guest | uint32(host)&oAccmode
}
