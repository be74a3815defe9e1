package rawposix

// hostLargefile is O_LARGEFILE as F_GETFL reports it; package unix has 0, which is what open takes on 64-bit hosts.
const hostLargefile = 0o100000
