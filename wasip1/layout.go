package wasip1

// This file has the sizes, offsets and numbers of the structures on both sides: WASI preview 1's from typenames.witx,
// Linux x86-64's from its UAPI headers.

// WASI structures: sizes, and offsets of the fields that are not at 0.
const (
	iovecSize = 8 // buf u32, len u32

	fdstatSize           = 24
	fdstatFlags          = 2
	fdstatRightsBase     = 8
	fdstatRightsInherits = 16

	filestatSize  = 64
	filestatIno   = 8
	filestatType  = 16
	filestatNlink = 24
	filestatBytes = 32
	filestatAtim  = 40
	filestatMtim  = 48
	filestatCtim  = 56

	direntSize   = 24
	direntIno    = 8
	direntNamlen = 16
	direntType   = 20

	prestatSize    = 8
	prestatNameLen = 4

	subscriptionSize = 48
	subscriptionTag  = 8
	subscriptionFD   = 16
	subClockID       = 16
	subClockTimeout  = 24
	subClockFlags    = 40

	eventSize   = 32
	eventError  = 8
	eventType   = 10
	eventNbytes = 16
	eventFlags  = 24
)

// WASI enumerations and flags.
const (
	clockRealtime  = 0
	clockMonotonic = 1
	clockIDs       = 4

	filetypeUnknown      = 0
	filetypeBlockDevice  = 1
	filetypeCharDevice   = 2
	filetypeDirectory    = 3
	filetypeRegular      = 4
	filetypeSocketDgram  = 5
	filetypeSocketStream = 6
	filetypeSymlink      = 7

	fdflagAppend   = 1 << 0
	fdflagDsync    = 1 << 1
	fdflagNonblock = 1 << 2
	fdflagRsync    = 1 << 3
	fdflagSync     = 1 << 4
	fdflagsAll     = 1<<5 - 1

	oflagCreat     = 1 << 0
	oflagDirectory = 1 << 1
	oflagExcl      = 1 << 2
	oflagTrunc     = 1 << 3
	oflagsAll      = 1<<4 - 1

	lookupFollow = 1 << 0

	fstAtim    = 1 << 0
	fstAtimNow = 1 << 1
	fstMtim    = 1 << 2
	fstMtimNow = 1 << 3
	fstAll     = 1<<4 - 1

	eventClock   = 0
	eventFDRead  = 1
	eventFDWrite = 2

	eventHangup = 1 << 0

	subClockAbstime = 1 << 0

	riPeek    = 1 << 0
	riWaitall = 1 << 1
	riAll     = 1<<2 - 1

	roDataTruncated = 1 << 0

	preopenDir = 0

	maxFD  = 1<<31 - 1
	maxTID = 1<<29 - 1
)

// Linux structures.
const (
	linuxIovecSize = 16 // base u64, len u64

	timespecSize = 16 // sec i64, nsec i64

	statSize     = 144
	statIno      = 8
	statNlink    = 16
	statMode     = 24
	statBytes    = 48
	statAtime    = 72
	statMtime    = 88
	statCtime    = 104
	pollfdSize   = 8
	pollfdEvents = 4
	pollfdGot    = 6

	linuxDirentOff    = 8
	linuxDirentReclen = 16
	linuxDirentType   = 18
	linuxDirentName   = 19

	msghdrSize   = 56
	msghdrIov    = 16
	msghdrIovlen = 24
	msghdrFlags  = 48
)

// Linux numbers.
const (
	linuxPathMax = 4096       // with the NUL
	linuxIovMax  = 1024       // UIO_MAXIOV
	linuxRWMax   = 0x7ffff000 // MAX_RW_COUNT

	modeType = 0o170000
	modeFIFO = 0o010000
	modeChar = 0o020000
	modeDir  = 0o040000
	modeBlk  = 0o060000
	modeReg  = 0o100000
	modeLnk  = 0o120000
	modeSock = 0o140000

	openWronly    = 0o1
	openRdwr      = 0o2
	openAccmode   = 0o3
	openCreat     = 0o100
	openExcl      = 0o200
	openTrunc     = 0o1000
	openAppend    = 0o2000
	openNonblock  = 0o4000
	openDsync     = 0o10000
	openDirectory = 0o200000
	openNofollow  = 0o400000
	openSync      = 0o4010000

	atSymlinkNofollow = 0x100
	atRemovedir       = 0x200

	fcntlGetfd = 1
	fcntlGetfl = 3
	fcntlSetfl = 4

	seekSet = 0
	seekCur = 1
	seekEnd = 2

	utimeNow  = 1<<30 - 1
	utimeOmit = 1<<30 - 2

	pollIn   = 0x1
	pollOut  = 0x4
	pollErr  = 0x8
	pollHup  = 0x10
	pollNval = 0x20

	ioctlFionread = 0x541b

	solSocket    = 1
	soType       = 3
	sockDgram    = 2
	sockNonblock = 0o4000

	msgPeek     = 0x2
	msgTrunc    = 0x20
	msgWaitall  = 0x100
	msgNosignal = 0x4000
)

const nanosPerSecond = 1_000_000_000
