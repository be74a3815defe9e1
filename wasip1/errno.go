package wasip1

import (
	"strconv"

	"github.com/lindbridge/lindbridge/abi"
)

// Errno is an error number of WASI preview 1 ($errno in typenames.witx). 0 is success. It is comparable and an error.
type Errno uint16

// The error numbers of WASI preview 1, by their names in the witx.
const (
	ErrnoSuccess        Errno = 0
	Errno2big           Errno = 1
	ErrnoAcces          Errno = 2
	ErrnoAddrinuse      Errno = 3
	ErrnoAddrnotavail   Errno = 4
	ErrnoAfnosupport    Errno = 5
	ErrnoAgain          Errno = 6
	ErrnoAlready        Errno = 7
	ErrnoBadf           Errno = 8
	ErrnoBadmsg         Errno = 9
	ErrnoBusy           Errno = 10
	ErrnoCanceled       Errno = 11
	ErrnoChild          Errno = 12
	ErrnoConnaborted    Errno = 13
	ErrnoConnrefused    Errno = 14
	ErrnoConnreset      Errno = 15
	ErrnoDeadlk         Errno = 16
	ErrnoDestaddrreq    Errno = 17
	ErrnoDom            Errno = 18
	ErrnoDquot          Errno = 19
	ErrnoExist          Errno = 20
	ErrnoFault          Errno = 21
	ErrnoFbig           Errno = 22
	ErrnoHostunreach    Errno = 23
	ErrnoIdrm           Errno = 24
	ErrnoIlseq          Errno = 25
	ErrnoInprogress     Errno = 26
	ErrnoIntr           Errno = 27
	ErrnoInval          Errno = 28
	ErrnoIO             Errno = 29
	ErrnoIsconn         Errno = 30
	ErrnoIsdir          Errno = 31
	ErrnoLoop           Errno = 32
	ErrnoMfile          Errno = 33
	ErrnoMlink          Errno = 34
	ErrnoMsgsize        Errno = 35
	ErrnoMultihop       Errno = 36
	ErrnoNametoolong    Errno = 37
	ErrnoNetdown        Errno = 38
	ErrnoNetreset       Errno = 39
	ErrnoNetunreach     Errno = 40
	ErrnoNfile          Errno = 41
	ErrnoNobufs         Errno = 42
	ErrnoNodev          Errno = 43
	ErrnoNoent          Errno = 44
	ErrnoNoexec         Errno = 45
	ErrnoNolck          Errno = 46
	ErrnoNolink         Errno = 47
	ErrnoNomem          Errno = 48
	ErrnoNomsg          Errno = 49
	ErrnoNoprotoopt     Errno = 50
	ErrnoNospc          Errno = 51
	ErrnoNosys          Errno = 52
	ErrnoNotconn        Errno = 53
	ErrnoNotdir         Errno = 54
	ErrnoNotempty       Errno = 55
	ErrnoNotrecoverable Errno = 56
	ErrnoNotsock        Errno = 57
	ErrnoNotsup         Errno = 58
	ErrnoNotty          Errno = 59
	ErrnoNxio           Errno = 60
	ErrnoOverflow       Errno = 61
	ErrnoOwnerdead      Errno = 62
	ErrnoPerm           Errno = 63
	ErrnoPipe           Errno = 64
	ErrnoProto          Errno = 65
	ErrnoProtonosupport Errno = 66
	ErrnoPrototype      Errno = 67
	ErrnoRange          Errno = 68
	ErrnoRofs           Errno = 69
	ErrnoSpipe          Errno = 70
	ErrnoSrch           Errno = 71
	ErrnoStale          Errno = 72
	ErrnoTimedout       Errno = 73
	ErrnoTxtbsy         Errno = 74
	ErrnoXdev           Errno = 75
	ErrnoNotcapable     Errno = 76
)

// errnoNames are the names of the witx, in its order.
var errnoNames = [...]string{
	"success", "2big", "acces", "addrinuse", "addrnotavail", "afnosupport", "again", "already", "badf", "badmsg", "busy",
	"canceled", "child", "connaborted", "connrefused", "connreset", "deadlk", "destaddrreq", "dom", "dquot", "exist",
	"fault", "fbig", "hostunreach", "idrm", "ilseq", "inprogress", "intr", "inval", "io", "isconn", "isdir", "loop",
	"mfile", "mlink", "msgsize", "multihop", "nametoolong", "netdown", "netreset", "netunreach", "nfile", "nobufs",
	"nodev", "noent", "noexec", "nolck", "nolink", "nomem", "nomsg", "noprotoopt", "nospc", "nosys", "notconn",
	"notdir", "notempty", "notrecoverable", "notsock", "notsup", "notty", "nxio", "overflow", "ownerdead", "perm",
	"pipe", "proto", "protonosupport", "prototype", "range", "rofs", "spipe", "srch", "stale", "timedout", "txtbsy",
	"xdev", "notcapable",
}

// Error is the errno's name in the witx, with "wasi errno" before it.
func (e Errno) Error() string {
	if int(e) < len(errnoNames) {
		return "wasi errno " + errnoNames[e]
	}
	return "wasi errno " + strconv.Itoa(int(e))
}

// fromLinux has WASI's number for each of Linux. Those that Linux has and WASI has not stand as the nearest that a
// program can act on; what says only that something below went wrong is io.
var fromLinux = [...]Errno{
	0:                   ErrnoSuccess,
	abi.EPERM:           ErrnoPerm,
	abi.ENOENT:          ErrnoNoent,
	abi.ESRCH:           ErrnoSrch,
	abi.EINTR:           ErrnoIntr,
	abi.EIO:             ErrnoIO,
	abi.ENXIO:           ErrnoNxio,
	abi.E2BIG:           Errno2big,
	abi.ENOEXEC:         ErrnoNoexec,
	abi.EBADF:           ErrnoBadf,
	abi.ECHILD:          ErrnoChild,
	abi.EAGAIN:          ErrnoAgain,
	abi.ENOMEM:          ErrnoNomem,
	abi.EACCES:          ErrnoAcces,
	abi.EFAULT:          ErrnoFault,
	abi.ENOTBLK:         ErrnoInval,
	abi.EBUSY:           ErrnoBusy,
	abi.EEXIST:          ErrnoExist,
	abi.EXDEV:           ErrnoXdev,
	abi.ENODEV:          ErrnoNodev,
	abi.ENOTDIR:         ErrnoNotdir,
	abi.EISDIR:          ErrnoIsdir,
	abi.EINVAL:          ErrnoInval,
	abi.ENFILE:          ErrnoNfile,
	abi.EMFILE:          ErrnoMfile,
	abi.ENOTTY:          ErrnoNotty,
	abi.ETXTBSY:         ErrnoTxtbsy,
	abi.EFBIG:           ErrnoFbig,
	abi.ENOSPC:          ErrnoNospc,
	abi.ESPIPE:          ErrnoSpipe,
	abi.EROFS:           ErrnoRofs,
	abi.EMLINK:          ErrnoMlink,
	abi.EPIPE:           ErrnoPipe,
	abi.EDOM:            ErrnoDom,
	abi.ERANGE:          ErrnoRange,
	abi.EDEADLK:         ErrnoDeadlk,
	abi.ENAMETOOLONG:    ErrnoNametoolong,
	abi.ENOLCK:          ErrnoNolck,
	abi.ENOSYS:          ErrnoNosys,
	abi.ENOTEMPTY:       ErrnoNotempty,
	abi.ELOOP:           ErrnoLoop,
	abi.ENOMSG:          ErrnoNomsg,
	abi.EIDRM:           ErrnoIdrm,
	abi.ECHRNG:          ErrnoIO,
	abi.EL2NSYNC:        ErrnoIO,
	abi.EL3HLT:          ErrnoIO,
	abi.EL3RST:          ErrnoIO,
	abi.ELNRNG:          ErrnoIO,
	abi.EUNATCH:         ErrnoIO,
	abi.ENOCSI:          ErrnoIO,
	abi.EL2HLT:          ErrnoIO,
	abi.EBADE:           ErrnoIO,
	abi.EBADR:           ErrnoInval,
	abi.EXFULL:          ErrnoNospc,
	abi.ENOANO:          ErrnoIO,
	abi.EBADRQC:         ErrnoInval,
	abi.EBADSLT:         ErrnoInval,
	abi.EBFONT:          ErrnoIO,
	abi.ENOSTR:          ErrnoNotsup,
	abi.ENODATA:         ErrnoNomsg,
	abi.ETIME:           ErrnoTimedout,
	abi.ENOSR:           ErrnoNobufs,
	abi.ENONET:          ErrnoNetdown,
	abi.ENOPKG:          ErrnoNosys,
	abi.EREMOTE:         ErrnoIO,
	abi.ENOLINK:         ErrnoNolink,
	abi.EADV:            ErrnoIO,
	abi.ESRMNT:          ErrnoIO,
	abi.ECOMM:           ErrnoIO,
	abi.EPROTO:          ErrnoProto,
	abi.EMULTIHOP:       ErrnoMultihop,
	abi.EDOTDOT:         ErrnoIO,
	abi.EBADMSG:         ErrnoBadmsg,
	abi.EOVERFLOW:       ErrnoOverflow,
	abi.ENOTUNIQ:        ErrnoAddrinuse,
	abi.EBADFD:          ErrnoBadf,
	abi.EREMCHG:         ErrnoIO,
	abi.ELIBACC:         ErrnoNoexec,
	abi.ELIBBAD:         ErrnoNoexec,
	abi.ELIBSCN:         ErrnoNoexec,
	abi.ELIBMAX:         ErrnoNoexec,
	abi.ELIBEXEC:        ErrnoNoexec,
	abi.EILSEQ:          ErrnoIlseq,
	abi.ERESTART:        ErrnoIntr,
	abi.ESTRPIPE:        ErrnoPipe,
	abi.EUSERS:          ErrnoAgain,
	abi.ENOTSOCK:        ErrnoNotsock,
	abi.EDESTADDRREQ:    ErrnoDestaddrreq,
	abi.EMSGSIZE:        ErrnoMsgsize,
	abi.EPROTOTYPE:      ErrnoPrototype,
	abi.ENOPROTOOPT:     ErrnoNoprotoopt,
	abi.EPROTONOSUPPORT: ErrnoProtonosupport,
	abi.ESOCKTNOSUPPORT: ErrnoNotsup,
	abi.EOPNOTSUPP:      ErrnoNotsup,
	abi.EPFNOSUPPORT:    ErrnoAfnosupport,
	abi.EAFNOSUPPORT:    ErrnoAfnosupport,
	abi.EADDRINUSE:      ErrnoAddrinuse,
	abi.EADDRNOTAVAIL:   ErrnoAddrnotavail,
	abi.ENETDOWN:        ErrnoNetdown,
	abi.ENETUNREACH:     ErrnoNetunreach,
	abi.ENETRESET:       ErrnoNetreset,
	abi.ECONNABORTED:    ErrnoConnaborted,
	abi.ECONNRESET:      ErrnoConnreset,
	abi.ENOBUFS:         ErrnoNobufs,
	abi.EISCONN:         ErrnoIsconn,
	abi.ENOTCONN:        ErrnoNotconn,
	abi.ESHUTDOWN:       ErrnoPipe,
	abi.ETOOMANYREFS:    ErrnoNobufs,
	abi.ETIMEDOUT:       ErrnoTimedout,
	abi.ECONNREFUSED:    ErrnoConnrefused,
	abi.EHOSTDOWN:       ErrnoHostunreach,
	abi.EHOSTUNREACH:    ErrnoHostunreach,
	abi.EALREADY:        ErrnoAlready,
	abi.EINPROGRESS:     ErrnoInprogress,
	abi.ESTALE:          ErrnoStale,
	abi.EUCLEAN:         ErrnoIO,
	abi.ENOTNAM:         ErrnoInval,
	abi.ENAVAIL:         ErrnoIO,
	abi.EISNAM:          ErrnoInval,
	abi.EREMOTEIO:       ErrnoIO,
	abi.EDQUOT:          ErrnoDquot,
	abi.ENOMEDIUM:       ErrnoNxio,
	abi.EMEDIUMTYPE:     ErrnoNxio,
	abi.ECANCELED:       ErrnoCanceled,
	abi.ENOKEY:          ErrnoAcces,
	abi.EKEYEXPIRED:     ErrnoAcces,
	abi.EKEYREVOKED:     ErrnoAcces,
	abi.EKEYREJECTED:    ErrnoAcces,
	abi.EOWNERDEAD:      ErrnoOwnerdead,
	abi.ENOTRECOVERABLE: ErrnoNotrecoverable,
	abi.ERFKILL:         ErrnoNetdown,
}

// FromLinux is WASI's number for an error number of Linux. One that Linux does not have is io.
func FromLinux(e abi.Errno) Errno {
	if e < 0 || int(e) >= len(fromLinux) {
		return ErrnoIO
	}
	if w := fromLinux[e]; w != ErrnoSuccess || e == 0 {
		return w
	}
	return ErrnoIO
}

// errnoOf is the outcome of a system call that answered r: success unless r is negative. What is no negative error
// number, such as abi.GrateErr of a grate that died while it served the call, is io.
func errnoOf(r int64) Errno {
	if r >= 0 {
		return ErrnoSuccess
	}
	if r < -int64(len(fromLinux)) {
		return ErrnoIO
	}
	return FromLinux(abi.Errno(-r))
}
