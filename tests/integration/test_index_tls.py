"""The index with TLS, by a certificate that the test makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.integration.cachekit import make_certificate
from tests.integration.clientkit import Client, installed
from tests.integration.indexkit import JSON, Site
from tests.integration.nodekit import until
from tests.integration.sshkit import free_port

pytestmark = pytest.mark.integration


def tls(site: Site, plain: int, **more: object) -> dict[str, object]:
    return {
        "farm_index_url": f"https://localhost:{site.nginx.port}",
        "index_server_listen": [f"127.0.0.1:{site.nginx.port}"],
        "index_server_http_listen": [f"127.0.0.1:{plain}"],
        "index_server_tls_certificate": str(site.directory / "index.crt"),
        "index_server_tls_key": str(site.directory / "index.key"),
        "index_server_acme_root": str(site.directory / "acme"),
        **more,
    }


@pytest.fixture(scope="module")
def plain() -> int:
    return free_port()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, plain: int) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("index"))
    make_certificate(site.directory / "index.crt", "localhost")
    site.publish("kit_a-1.0-py3-none-any.whl")
    site.start(**tls(site, plain))
    yield site
    site.stop()


def get(site: Site, path: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(
            f"https://localhost:{site.nginx.port}{path}",
            headers=headers,
            verify=str(site.directory / "index.crt"),
            allow_redirects=False,
            timeout=20,
        )


def test_pages_and_other_spellings_by_tls(site: Site) -> None:
    page = get(site, "/simple/kit-a/", Accept=JSON)
    assert page.json()["files"][0]["filename"] == "kit_a-1.0-py3-none-any.whl"
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert get(site, "/simple/Kit_A/").headers["Location"] == "/simple/kit-a/"
    assert get(site, "/simple/kit_a").headers["Location"] == "/simple/kit-a/"


def test_plain_http_redirects_and_answers_an_authority(site: Site, plain: int) -> None:
    challenge = site.directory / "acme/.well-known/acme-challenge/token"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{plain}"
        assert session.get(f"{url}/.well-known/acme-challenge/token", timeout=20).text == "proof"
        there = session.get(f"{url}/simple/kit-a/?x=1", timeout=20, allow_redirects=False)
    assert there.status_code == 301
    assert there.headers["Location"] == f"https://localhost:{site.nginx.port}/simple/kit-a/?x=1"
    assert "Strict-Transport-Security" not in there.headers


def test_pip_trusts_the_certificate_it_is_given_and_no_other(
    site: Site, clients: dict[str, Client], tmp_path: Path
) -> None:
    index = f"https://localhost:{site.nginx.port}/simple/"
    for name in ("pip-oldest", "pip-newest"):
        certificate = str(site.directory / "index.crt")
        clients[name].install(tmp_path / name, "--cert", certificate, "kit-a", index=index)
        assert installed(tmp_path / name) == {"kit_a": "1.0"}
        refused = clients[name].install(tmp_path / "no", "--retries", "0", "kit-a", index=index, check=False)
        assert refused.returncode != 0


def test_without_a_certificate_plain_http_alone_answers(tmp_path: Path) -> None:
    """As it is while an authority is asked for the first one."""
    site, plain = Site(tmp_path), free_port()
    challenge = tmp_path / "acme/.well-known/acme-challenge/token"
    challenge.parent.mkdir(parents=True)
    challenge.write_text("proof")
    tls_port, site.nginx.port = site.nginx.port, plain
    site.start(
        **tls(
            site, plain, farm_index_url=f"https://localhost:{tls_port}", index_server_certificate_there=False
        )
    )
    try:
        until(lambda: site.get("/.well-known/acme-challenge/token").text == "proof", "the challenge")
        assert site.get("/simple/").headers["Location"] == f"https://localhost:{tls_port}/simple/"
    finally:
        site.stop()
