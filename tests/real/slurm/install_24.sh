#!/usr/bin/env bash
# Unpacks Slurm 24.11 (Debian 13's packages) into a folder, where it runs beside the distribution's own: no
# root, no chroot, nothing mounted.  Its programs are given the folder's own loader and libraries.
#
#     tests/real/slurm/install_24.sh [FOLDER]     default: $BROKER_TEST_SLURM_24, or below ~/.cache
#
# Does nothing when FOLDER is complete.  FOLDER must not be moved afterwards.
set -euo pipefail
release=trixie
packages=(slurmctld slurmd slurmrestd slurmdbd slurm-client slurm-wlm-jwt-plugin slurm-wlm-mysql-plugin libslurm-dev)
root=${1:-${BROKER_TEST_SLURM_24:-${XDG_CACHE_HOME:-$HOME/.cache}/workload-broker/slurm-24.11}}
libraries=$root/usr/lib/x86_64-linux-gnu

[ ! -e "$root/complete" ] || exit 0
[ ! -e "$root" ] || { echo "$root exists and is not complete: remove it first" >&2; exit 1; }
command -v patchelf >/dev/null || { echo "patchelf is missing: apt-get install patchelf" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists,cache/archives}/partial "$work/unpacked"
: >"$work/status"      # nothing is installed yet, so every dependency is fetched

# From the mirror that this machine uses.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(SUITE) $(CODENAME)' 'Created-By: Packages' |
    awk '$2 == "Debian" && $4 !~ /-/ {print $1; exit}')
[ -n "$mirror" ] || { echo "apt knows no Debian mirror: apt-get update" >&2; exit 1; }
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$work/sources.list"

cat >"$work/apt.conf" <<CONF
Dir::State "$work";
Dir::State::status "$work/status";
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
Dir::Log "$work";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
CONF
export APT_CONFIG=$work/apt.conf
apt-get -qq update
apt-get -qq install --yes --download-only "${packages[@]}" >/dev/null

for package in "$work"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$work/unpacked"
done

cd "$work/unpacked/usr"
for daemon in slurmctld slurmd slurmstepd; do
    [ -e "sbin/$daemon" ] || mv "sbin/$daemon-wlm" "sbin/$daemon"      # a link of Debian's alternatives
done
mkdir only
mv sbin/slurm* bin/{sacct,sacctmgr,salloc,sbatch,scancel,scontrol,sdiag,sinfo,squeue,srun,sshare,sstat} only
rm -r bin sbin         # whatever else came along would not run here
mv only bin
# RPATH, and not RUNPATH, so that plug-ins find their libraries there too.
patchelf --set-interpreter "$root/usr/lib64/ld-linux-x86-64.so.2" \
    --force-rpath --set-rpath "$libraries:$libraries/slurm-wlm" bin/*

mkdir -p "$(dirname "$root")"
chmod 755 "$work/unpacked"
mv "$work/unpacked" "$root"
: >"$root/complete"
"$root/usr/bin/slurmctld" -V
