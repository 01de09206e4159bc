"""libtorrent as a bench peer: make FILE | seed FILE HOST PORT | fetch FILE FOLDER HOST:PORT[,HOST:PORT...] [LISTEN]."""
import os
import sys
import time

import libtorrent as lt

SETTINGS = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    "out_enc_policy": 2,
    "in_enc_policy": 2,
    "unchoke_slots_limit": 64,
    "alert_mask": 0,
}


def make(path):
    storage = lt.file_storage()
    lt.add_files(storage, path)
    torrent = lt.create_torrent(storage, 1 << 20)
    lt.set_piece_hashes(torrent, os.path.dirname(path))
    with open(path + ".torrent", "wb") as out:
        out.write(lt.bencode(torrent.generate()))


def session(listen):
    return lt.session({**SETTINGS, "listen_interfaces": listen})


def add(ses, path, folder, seeds):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(path + ".torrent")
    params.save_path = folder
    params.storage_mode = lt.storage_mode_t.storage_mode_allocate
    if seeds:
        params.flags |= lt.torrent_flags.seed_mode
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    return ses.add_torrent(params)


def main():
    command, path = sys.argv[1], sys.argv[2]
    if command == "make":
        make(path)
        return
    if command == "seed":
        ses = session(f"{sys.argv[3]}:{sys.argv[4]}")
        handle = add(ses, path, os.path.dirname(path), True)
        while handle.is_valid():
            time.sleep(1)
        return
    folder, peers = sys.argv[3], sys.argv[4]
    ses = session(sys.argv[5] if len(sys.argv) > 5 else "127.0.0.1:0")
    handle = add(ses, path, folder, False)
    for peer in peers.split(","):
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    while not handle.status().is_seeding:
        time.sleep(0.01)
    # With a further argument the leecher stays to upload until it is ended, as at a site.
    print("complete", flush=True)
    if len(sys.argv) > 6:
        while True:
            time.sleep(1)


main()
