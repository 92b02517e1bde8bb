"""nginx as a plain proxy: the machine's, or Debian's package unpacked into the folder."""

import shutil

from home import HOME, Skip, run, step
from rivals import Rival, Server, wait_for_answers

VERSION = "1.22.1"  # of Debian 12; whatever the machine has is taken, and its version is told

CONFIGURATION = """daemon off; worker_processes {workers}; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile 20000;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_max_body_size 0; client_body_buffer_size 1m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engines {{ {servers} keepalive 1024; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


def program():
    for path in HOME / "nginx" / "usr" / "sbin" / "nginx", shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin"):
        if path and shutil.which(path):
            return path
    return None


def install():
    if not program():
        fetch()
    return run("sh", "-c", f"{program()} -v 2>&1").strip().rpartition("/")[2]


def fetch():
    if not shutil.which("apt-get"):
        raise Skip("no nginx, and no apt-get to fetch it with")

    def unpack(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        run("apt-get", "download", "nginx", cwd=folder)
        run("dpkg", "-x", next(folder.glob("nginx_*.deb")), folder)

    step("nginx", [VERSION], unpack)


def start(stage, engines):
    port = stage.port()
    folder = stage.folder / f"nginx-{port}"
    folder.mkdir()
    servers = " ".join(f"server {url.removeprefix('http://')};" for url in engines.urls)
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(workers=2, folder=folder, servers=servers, port=port))
    process = stage.spawn("nginx", program(), "-p", folder, "-c", configuration, "-e", folder / "error.log")
    return wait_for_answers(Server(f"http://127.0.0.1:{port}", [process], engines.model))


RIVALS = [Rival("nginx", "nginx", VERSION, install, start)]
