"""A small shop: a cart for anyone, an upload for members, and a request that takes as long as the test wants."""

import hashlib
import threading

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpResponseBadRequest, JsonResponse
from django.shortcuts import redirect, render


class Login(LoginView):
    """Django's login page; without "remember me" the session cookie ends with the browser."""

    def form_valid(self, form):
        answer = super().form_valid(form)
        if not self.request.POST.get("remember"):
            self.request.session.set_expiry(0)
        return answer


def home(request):
    return render(request, "home.html", {"cart": request.session.get("cart", [])})


def me(request):
    """What the app knows of this request: who, which session values, which cookies and identity headers arrived."""
    return JsonResponse(
        {
            "user": request.user.get_username() if request.user.is_authenticated else None,
            "cart": request.session.get("cart", []),
            "session": sorted(key for key in request.session.keys() if not key.startswith("_")),
            "cookies": sorted(request.COOKIES),
            "guard": {name: value for name, value in request.headers.items() if name.lower().startswith("portcullis-")},
        }
    )


def cart(request):
    """Anonymous visitors have a cart too: it lives in the session, and the session begins with it."""
    if request.method == "POST":
        request.session["cart"] = [*request.session.get("cart", []), request.POST["item"]]
        return redirect("/cart/")
    return render(request, "cart.html", {"cart": request.session.get("cart", [])})


@login_required
def upload(request):
    if request.method != "POST":
        return render(request, "upload.html")
    file = request.FILES.get("file")
    if file is None:
        return HttpResponseBadRequest("no file")
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return JsonResponse({"name": file.name, "size": file.size, "sha256": digest.hexdigest()})


class Gate:
    """Holds a slow request until the test has seen it arrive and lets it go on: no test needs to sleep."""

    gates = {}
    lock = threading.Lock()

    def __init__(self):
        self.arrived = threading.Event()
        self.open = threading.Event()

    @classmethod
    def named(cls, request):
        with cls.lock:
            return cls.gates.setdefault(request.GET["gate"], cls())


def slow(request):
    """Reads the session, waits at the gate, then saves the session as it was read, late."""
    seen = request.session.get("slow", 0)
    user = request.user.get_username()
    gate = Gate.named(request)
    gate.arrived.set()
    gate.open.wait(20)
    request.session["slow"] = seen + 1
    return JsonResponse({"user": user or None})


def gate_arrived(request):
    return JsonResponse({"arrived": Gate.named(request).arrived.wait(20)})


def gate_open(request):
    Gate.named(request).open.set()
    return JsonResponse({"open": True})
