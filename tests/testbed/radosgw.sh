#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Reference and bench origin: radosgw over a one-node Ceph that keeps its objects in RAM. EVERYTHING is lost at stop.
# usage: radosgw.sh DATA_DIR PORT [start|stop]     also takes ports PORT+1 and PORT+2 (monitor)
# request log, with bytes: DATA_DIR/ops.json      RGW_RAM_GB: capacity (default 4), used as filled
set -euo pipefail
. "$(dirname "$0")/server.sh"
s=$dir/ceph
stop_all() { stop "$pid_file"; for d in mgr.x osd.0 mon.a; do stop "$s/$d.pid"; done; }
if [ "$op" = stop ]; then stop_all; rm -rf "$s"; echo stopped; exit 0; fi
begin
stop_all; rm -rf "$s"
for command in radosgw ceph-mon ceph-osd ceph-mgr ceph; do
    command -v "$command" >/dev/null || { install ceph-mon ceph-osd ceph-mgr radosgw ceph-common; break; }
done
mkdir -p "$s"/{mon,osd,mgr,rgw}; uuid() { cat /proc/sys/kernel/random/uuid; }; id=$(uuid); mons="[v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$((port + 2))]"
cat >"$s/ceph.conf" <<C
[global]
fsid = $id
mon_host = $mons
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_allow_insecure_global_id_reclaim = false
keyring = $s/\$name.keyring
run_dir = $s
admin_socket = $s/\$name.asok
log_file = $s/\$name.log
pid_file = $s/\$name.pid
crash_dir = $s
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = $((${RGW_RAM_GB:-4} << 30))
memstore_page_set = false
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
debug_ms = 0
debug_osd = 0
debug_rgw = 0
[mon.a]
mon_data = $s/mon
[osd.0]
osd_data = $s/osd
[mgr.x]
mgr_data = $s/mgr
[client.rgw.x]
rgw_data = $s/rgw
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_enable_ops_log = true
rgw_ops_log_rados = false
rgw_ops_log_file_path = $dir/ops.json
rgw_crypt_require_ssl = false
rgw_sts_key = larder-test-sts1
rgw_s3_auth_use_sts = true
C
export CEPH_CONF=$s/ceph.conf
{
    monmaptool --create --fsid "$id" --addv a "$mons" "$s/monmap"
    ceph-authtool --create-keyring "$s/mon.a.keyring" --gen-key -n mon. --cap mon 'allow *'
    ceph-authtool --create-keyring "$s/client.admin.keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    ceph-authtool "$s/mon.a.keyring" --import-keyring "$s/client.admin.keyring"
    ceph-mon -i a --mkfs --monmap "$s/monmap" --keyring "$s/mon.a.keyring"
    ceph-mon -i a
    osd=$(uuid); timeout 60 ceph osd create "$osd"
    timeout 60 ceph auth get-or-create osd.0 mon 'allow profile osd' osd 'allow *' mgr 'allow profile osd' -o "$s/osd.0.keyring"
    timeout 60 ceph auth get-or-create mgr.x mon 'allow profile mgr' osd 'allow *' -o "$s/mgr.x.keyring"
    timeout 60 ceph auth get-or-create client.rgw.x mon 'allow *' osd 'allow *' mgr 'allow *' -o "$s/client.rgw.x.keyring"
    ceph-osd -i 0 --mkfs --osd-uuid "$osd"
    ceph-osd -i 0
    ceph-mgr -i x
} >>"$log" 2>&1 || { stop_all; die "cluster did not start, see $log"; }
launch radosgw -f -n client.rgw.x
timeout 60 radosgw-admin -n client.rgw.x user create --uid larder --display-name larder --access-key "$access" --secret-key "$secret" --caps "user-policy=*" >>"$log" 2>&1 || { stop_all; die "user was not created, see $log"; }
say
