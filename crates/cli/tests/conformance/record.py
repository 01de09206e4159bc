"""Records what the public TUF conformance suite says to `sluice tuf-client`, for the replay in tests/conformance.rs.

Run the suite (github.com/theupdateframework/tuf-conformance, from a checkout outside this project) with this file as
its client, then pack what was recorded:

    pytest tuf_conformance --entrypoint "python3 /abs/record.py run DIR /abs/sluice"
    python3 record.py pack DIR exchanges.json.xz --suite COMMIT

`run` stands between client and suite: it forwards every request, gives the client the suite's clock as --now, and writes
one line a command: arguments, clock, requests with answers, exit code, and every file that the client holds afterwards.
"""

import base64
import http.server
import json
import lzma
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from hashlib import sha256
from pathlib import Path

BASES = {"--metadata-url": "metadata", "--target-base-url": "targets"}


def run(out, sluice, arguments):
    options, verb = {"--target-name": []}, []
    given = iter(arguments)
    for word in given:
        if word == "--target-name":
            options[word].append(next(given))
        elif word.startswith("--"):
            options[word] = next(given)
        else:
            verb.append(word)
    requests = []
    server = serve({name: options[option] for option, name in BASES.items() if option in options}, requests)
    command = [sluice, "tuf-client", "--metadata-dir", options["--metadata-dir"]]
    for option, name in BASES.items():
        if option in options:
            command += [option, f"http://127.0.0.1:{server.server_address[1]}/{name}/"]
    for name in options["--target-name"]:
        command += ["--target-name", name]
    if "--target-dir" in options:
        command += ["--target-dir", options["--target-dir"]]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time()))
    exit_code = subprocess.run([*command, "--now", now, *verb]).returncode
    server.shutdown()
    url = options.get("--metadata-url")
    line = {
        "case": url and urllib.parse.unquote(urllib.parse.urlparse(url).path.split("/")[1]),
        "verb": verb[0],
        "names": options["--target-name"],
        "root": text(Path(verb[1]).read_bytes()) if verb[0] == "init" else None,
        "now": now,
        "requests": requests,
        "exit": exit_code,
        "metadata": files(options["--metadata-dir"], ".json"),
        "targets": files(options["--target-dir"], "") if "--target-dir" in options else None,
    }
    record = Path(out) / sha256(options["--metadata-dir"].encode()).hexdigest()
    with record.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return exit_code


def serve(bases, requests):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            _, name, rest = self.path.split("/", 2)
            try:
                with urllib.request.urlopen(bases[name] + rest) as answer:
                    status, body = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                status, body = error.code, b""
            except OSError:
                # The suite's server stumbled and hung up.
                status, body = 502, b""
            requests.append([self.path, status, text(body) if status == 200 else None])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def text(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def files(directory, ending):
    paths = sorted(Path(directory).iterdir()) if os.path.isdir(directory) else []
    return {path.name: text(path.read_bytes()) for path in paths if path.name.endswith(ending)}


def pack(directory, target, suite):
    """Each different content once, in the order of the first use, so that the compressor finds what is alike."""
    contents, cases = {}, []

    def index(content):
        return None if content is None else contents.setdefault(json.dumps(content), len(contents))

    for record in Path(directory).iterdir():
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        names = [line["case"] for line in lines if line["case"]]
        for line in lines:
            del line["case"]
        cases.append((names[0], lines))
    cases.sort()
    for _, lines in cases:
        for line in lines:
            line["root"] = index(line["root"])
            line["requests"] = [[path, status, index(body)] for path, status, body in line["requests"]]
            for kind in ("metadata", "targets"):
                if line[kind] is not None:
                    line[kind] = {name: index(content) for name, content in line[kind].items()}
    packed = {
        "suite": suite,
        "cases": [{"name": name, "runs": lines} for name, lines in cases],
        "contents": [json.loads(content) for content in contents],
    }
    data = json.dumps(packed, separators=(",", ":")).encode()
    Path(target).write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME, check=lzma.CHECK_CRC32))
    print(f"{len(cases)} cases, {len(contents)} contents, {len(data)} bytes, {os.path.getsize(target)} compressed")


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(run(sys.argv[2], sys.argv[3], sys.argv[4:]))
    pack(sys.argv[2], sys.argv[3], sys.argv[sys.argv.index("--suite") + 1])
