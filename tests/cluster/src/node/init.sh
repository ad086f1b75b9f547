# A node's first process: it makes the node's own view of the file system, and holds its namespaces.
# $1: the node's name; $2: its directory for large files, $3: the shell that has everything built in.
set -eu
name=$1 data=$2 busybox=$3

# What is mounted here stays here; what a pod mounts with propagation reaches the node's other mounts.
mount --make-rprivate /
hostname "$name"

# A node of its own: its configuration, its state, nothing that survives in /run.
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$data/etc,workdir=$data/etc-work" /etc
mount -t tmpfs -o mode=755 tmpfs /tmp
for directory in log lib; do
    mkdir -p "$data/$directory"
done
mount --bind "$data/log" /var/log
mount --bind "$data/lib" /var/lib
mkdir -p /var/lib/kubelet /var/lib/containerd
mount --bind /var/lib/kubelet /var/lib/kubelet
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/containerd

# No pins of anybody else's.
[ -d /sys/fs/bpf ] && mount -t bpf bpf /sys/fs/bpf

# kubelet sets these for the whole machine; here it finds them as it wants them, and the machine keeps its own.
put() {
    [ -e "/proc/sys/$1" ] || return 0
    mkdir -p "/run/.sysctl/${1%/*}"
    echo "$2" >"/run/.sysctl/$1"
    mount --bind "/run/.sysctl/$1" "/proc/sys/$1"
}
put vm/overcommit_memory 1
put vm/panic_on_oom 0
put kernel/panic 10
put kernel/panic_on_oops 1
put kernel/keys/root_maxkeys 1000000
put kernel/keys/root_maxbytes 25000000
# A node that starts anew has another boot id.
put kernel/random/boot_id "$(cat /proc/sys/kernel/random/uuid)"

mount --make-rshared /
touch /run/.ready

# Processes are the machine's, as on a real node: what the kernel tells programs of a process is its id there.
exec "$busybox" sh -c 'while :; do sleep 3600 & wait $!; done'
