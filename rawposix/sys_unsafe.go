package rawposix

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/lindbridge/lindbridge/abi"
)

// This file has the system calls that take addresses: of guest memory, which package unix has no types for, and of paths
// that are already in the kernel's form, so that they are not copied again.
//
// Addresses in an iovec are numbers. Those of the Go heap are of scratch memory, which the calling thread keeps alive.

// sysBuf is read(2) or write(2) of one buffer.
func sysBuf(trap uintptr, fd int, b iovec) (uint64, abi.Errno) {
	n, _, e := unix.Syscall(trap, uintptr(fd), uintptr(b.base), uintptr(b.len))
	return count(n, e)
}

// sysBufAt is pread(2) or pwrite(2) of one buffer.
func sysBufAt(trap uintptr, fd int, b iovec, pos int64) (uint64, abi.Errno) {
	n, _, e := unix.Syscall6(trap, uintptr(fd), uintptr(b.base), uintptr(b.len), uintptr(pos), 0, 0)
	return count(n, e)
}

// sysVec is one of the calls from readv(2) to pwritev2(2).
func sysVec(trap uintptr, fd int, v []iovec, pos int64, flags uintptr) (uint64, abi.Errno) {
	n, _, e := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)),
		uintptr(pos), 0, flags)
	return count(n, e)
}

// sysMsg is sendmsg(2) or recvmsg(2) without an address and without control data.
func sysMsg(trap uintptr, fd int, v []iovec, flags uintptr) (uint64, abi.Errno) {
	n, _, e := sysMsgName(trap, fd, v, nil, flags)
	return n, e
}

// sysMsgName is sysMsg with room for an address, or an address, in name. It answers the address's length and
// recvmsg's msg_flags too.
func sysMsgName(trap uintptr, fd int, v []iovec, name []byte, flags uintptr) (uint64, msgInfo, abi.Errno) {
	hdr := unix.Msghdr{
		Name: unsafe.SliceData(name), Namelen: uint32(len(name)),
		Iov: (*unix.Iovec)(unsafe.Pointer(unsafe.SliceData(v))),
	}
	hdr.SetIovlen(len(v))
	n, _, e := unix.Syscall(trap, uintptr(fd), uintptr(unsafe.Pointer(&hdr)), flags)
	moved, errno := count(n, e)
	return moved, msgInfo{nameLen: hdr.Namelen, flags: uint32(hdr.Flags)}, errno
}

// msgInfo is what recvmsg(2) answers beside the data.
type msgInfo struct {
	nameLen uint32 // of the whole address, which may be more than there was room for
	flags   uint32
}

// sysAccept4 is accept4(2) with room for an address; it answers the address's whole length too.
func sysAccept4(fd int, name []byte, flags int) (nfd int, nameLen uint32, e abi.Errno) {
	nameLen = uint32(len(name))
	n, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(name))),
		uintptr(unsafe.Pointer(&nameLen)), uintptr(flags), 0, 0)
	return int(n), nameLen, abi.Errno(errno)
}

// sysSockName is a call on a socket and an address: bind(2), connect(2).
func sysSockName(trap uintptr, fd int, name []byte) abi.Errno {
	_, _, e := unix.Syscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(len(name)))
	return abi.Errno(e)
}

// sysGetName is getsockname(2) or getpeername(2) with room for an address; it answers the address's whole length.
func sysGetName(trap uintptr, fd int, name []byte) (nameLen uint32, e abi.Errno) {
	nameLen = uint32(len(name))
	_, _, errno := unix.Syscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(name))),
		uintptr(unsafe.Pointer(&nameLen)))
	return nameLen, abi.Errno(errno)
}

// sysOpenat is openat(2). The path ends in a NUL, as everywhere below.
func sysOpenat(dir int, path []byte, flags int, mode uint32) (int, abi.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(flags), uintptr(mode), 0, 0)
	return fdOrErrno(n, e)
}

// sysOpenat2 is openat2(2).
func sysOpenat2(dir int, path []byte, how *unix.OpenHow) (int, abi.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(unsafe.Pointer(how)), unix.SizeofOpenHow, 0, 0)
	return fdOrErrno(n, e)
}

// sysAt is a call on one path that answers nothing: mkdirat(2) with a mode, unlinkat(2) with flags.
func sysAt(trap uintptr, dir int, path []byte, arg uintptr) abi.Errno {
	_, _, e := unix.Syscall(trap, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))), arg)
	return abi.Errno(e)
}

// sysAt2 is a call on two paths: renameat2(2), linkat(2).
func sysAt2(trap uintptr, oldDir int, oldPath []byte, newDir int, newPath []byte, flags uintptr) abi.Errno {
	_, _, e := unix.Syscall6(trap, uintptr(oldDir), uintptr(unsafe.Pointer(unsafe.SliceData(oldPath))),
		uintptr(newDir), uintptr(unsafe.Pointer(unsafe.SliceData(newPath))), flags, 0)
	return abi.Errno(e)
}

// sysSymlinkat is symlinkat(2).
func sysSymlinkat(target []byte, dir int, path []byte) abi.Errno {
	_, _, e := unix.Syscall(unix.SYS_SYMLINKAT, uintptr(unsafe.Pointer(unsafe.SliceData(target))), uintptr(dir),
		uintptr(unsafe.Pointer(unsafe.SliceData(path))))
	return abi.Errno(e)
}

// sysReadlinkat is readlinkat(2) into the memory b.
func sysReadlinkat(dir int, path []byte, b iovec) (int, abi.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(b.base), uintptr(b.len), 0, 0)
	return fdOrErrno(n, e)
}

// sysFstatat is newfstatat(2).
func sysFstatat(dir int, path []byte, st *unix.Stat_t, flags int) abi.Errno {
	_, _, e := unix.Syscall6(unix.SYS_NEWFSTATAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(unsafe.Pointer(st)), uintptr(flags), 0, 0)
	return abi.Errno(e)
}

// sysUtimensat is utimensat(2). A nil path means dir itself, nil times mean now.
func sysUtimensat(dir int, path []byte, times *[2]unix.Timespec, flags int) abi.Errno {
	_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(unsafe.Pointer(times)), uintptr(flags), 0, 0)
	return abi.Errno(e)
}

// sysClockGettime is clock_gettime(2) without telling Go's scheduler, which it is too short for.
func sysClockGettime(clock int32, ts *unix.Timespec) abi.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(ts)), 0)
	return abi.Errno(e)
}

// sysIoctlInt is an ioctl(2) that answers an int.
func sysIoctlInt(fd int, request uintptr) (int32, abi.Errno) {
	var v int32
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&v)))
	return v, abi.Errno(e)
}

func count(n uintptr, e unix.Errno) (uint64, abi.Errno) {
	if e != 0 {
		return 0, abi.Errno(e)
	}
	return uint64(n), 0
}

func fdOrErrno(n uintptr, e unix.Errno) (int, abi.Errno) {
	if e != 0 {
		return -1, abi.Errno(e)
	}
	return int(n), 0
}
