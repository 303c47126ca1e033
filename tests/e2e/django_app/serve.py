"""Starts the shop: `python serve.py [127.0.0.1:PORT | unix:PATH]`.

Needs APP_DATABASE, APP_SECRET_KEY and, to make the users, APP_ALICE_PASSWORD (staff) and APP_BOB_PASSWORD. Port 0 is any
free port; the one taken is printed as `listening on 127.0.0.1:PORT`. Ends when standard input does, so that no test
that dies leaves a server behind.
"""

import os
import sys
import threading

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")


def make_users():
    from django.contrib.auth import get_user_model
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    users = get_user_model().objects
    for name, staff in (("alice", True), ("bob", False)):
        password = os.environ.get(f"APP_{name.upper()}_PASSWORD")
        if password and not users.filter(username=name).exists():
            make = users.create_superuser if staff else users.create_user
            make(name, f"{name}@example.com", password)


def end_with_standard_input():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main():
    where = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"

    from shop.wsgi import application
    from waitress import create_server

    make_users()
    # Hop-by-hop and forwarding headers reach the app as they came: tests look at what the guard sends.
    options = {"threads": 16, "clear_untrusted_proxy_headers": False, "ident": None}
    if where.startswith("unix:"):
        server = create_server(application, unix_socket=where.removeprefix("unix:"), **options)
        name = where
    else:
        server = create_server(application, listen=where, **options)
        name = f"127.0.0.1:{server.effective_port}"
    if not sys.stdin.isatty():
        threading.Thread(target=end_with_standard_input, daemon=True).start()
    print(f"listening on {name}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
