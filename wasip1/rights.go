package wasip1

// rights is WASI's $rights. They are reported, for programs that look before they leap, and not enforced.
type rights uint64

const (
	rightFDDatasync rights = 1 << iota
	rightFDRead
	rightFDSeek
	rightFDFdstatSetFlags
	rightFDSync
	rightFDTell
	rightFDWrite
	rightFDAdvise
	rightFDAllocate
	rightPathCreateDirectory
	rightPathCreateFile
	rightPathLinkSource
	rightPathLinkTarget
	rightPathOpen
	rightFDReaddir
	rightPathReadlink
	rightPathRenameSource
	rightPathRenameTarget
	rightPathFilestatGet
	rightPathFilestatSetSize
	rightPathFilestatSetTimes
	rightFDFilestatGet
	rightFDFilestatSetSize
	rightFDFilestatSetTimes
	rightPathSymlink
	rightPathRemoveDirectory
	rightPathUnlinkFile
	rightPollFDReadwrite
	rightSockShutdown
	rightSockAccept
)

// What a descriptor can be used for, by what it is. wasi-libc asks of a directory's inheriting rights that they
// have what a file below it is opened with, and takes a character device that can neither seek nor tell for a
// terminal.
const (
	rightsDir = rightPathCreateDirectory | rightPathCreateFile | rightPathLinkSource | rightPathLinkTarget |
		rightPathOpen | rightFDReaddir | rightPathReadlink | rightPathRenameSource | rightPathRenameTarget |
		rightPathFilestatGet | rightPathFilestatSetSize | rightPathFilestatSetTimes | rightFDFilestatGet |
		rightFDFilestatSetTimes | rightPathSymlink | rightPathRemoveDirectory | rightPathUnlinkFile
	rightsStream = rightFDRead | rightFDWrite | rightFDFdstatSetFlags | rightFDFilestatGet | rightPollFDReadwrite
	rightsDevice = rightsStream | rightFDSeek | rightFDTell | rightFDSync | rightFDDatasync | rightFDFilestatSetTimes
	rightsFile   = rightsDevice | rightFDAdvise | rightFDAllocate | rightFDFilestatSetSize
	rightsSocket = rightsStream | rightSockShutdown | rightSockAccept
)
