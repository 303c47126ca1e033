"""Uses a stolen session with the headers of its owner, and says for whom the site took the request.

thief.py PROGRAM URL [TIMES], the headers as JSON on standard input: [[name, value], ...]. PROGRAM is requests, httpx, httpx2 or a
target of curl_cffi. With TIMES it goes on asking, keeps the cookies that it is given, and says a line each time.
"""

import json
import sys
import time
import warnings

OURS = "__Host-portcullis="


def ask(program, url, headers):
    """Asks once, with these headers and no others where that can be had."""
    if program == "requests":
        import requests

        session = requests.Session()
        session.headers.clear()
        return session.get(url, headers=dict(headers), verify=False)
    if program in ("httpx", "httpx2"):
        import httpx

        client = httpx.Client(http2=program == "httpx2", verify=False)
        client.headers.clear()
        return client.get(url, headers=headers)
    from curl_cffi import requests

    return requests.get(url, headers=dict(headers), verify=False, impersonate=program, default_headers=False)


def main():
    program, url, *times = sys.argv[1:]
    warnings.simplefilter("ignore")
    headers = json.load(sys.stdin)
    for _ in range(int(times[0]) if times else 1):
        answer = ask(program, url, headers)
        print(answer.text.split('id="user">')[-1].split("<")[0], flush=True)
        kept = answer.headers.get("set-cookie", "").split(";")[0]
        if kept.startswith(OURS):
            headers = [[name, kept if name == "cookie" else value] for name, value in headers]
        if times:
            time.sleep(0.3)


main()
