"""All addresses of the shop."""

from django.contrib import admin
from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.home),
    path("me/", views.me),
    path("cart/", views.cart),
    path("upload/", views.upload),
    path("slow/", views.slow),
    path("gate/arrived/", views.gate_arrived),
    path("gate/open/", views.gate_open),
    path("accounts/login/", views.Login.as_view()),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
]
