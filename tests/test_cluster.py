"""Places on other machines, as far as no Ray is needed: addresses, wishes, and what is missing.

``tests/soak_cluster.py`` starts a Ray and loses a node.
"""

import ipaddress
import sys
from types import SimpleNamespace

import psutil
import pytest
from test_units import divided, experiment, place  # noqa: F401, a fixture

from lib.errors import ParameterError
from lib.runner import chain, cluster


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.7", "192.168.1.2", "172.16.0.1", "::1"])
def test_an_address_of_this_machine_or_of_a_private_network_is_accepted(host):
    cluster.check_private(host, allow_public=False)


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888"])
def test_a_public_address_is_refused_unless_it_is_allowed(host):
    with pytest.raises(ParameterError, match=r"public address.*--allow-public"):
        cluster.check_private(host, allow_public=False)
    cluster.check_private(host, allow_public=True)


def test_a_public_address_is_refused_before_anything_starts(place, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())  # it is not even asked
    path = experiment(place, "a", ["train"])
    assert chain.main([str(path), "--on", "ray://8.8.8.8:10001"]) == 2
    assert "8.8.8.8 is a public address" in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_without_ray_it_is_said_what_to_install(place, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    path = experiment(place, "a", ["train"])
    for on in ("ray", "auto", "ray://localhost:10001"):
        assert chain.main([str(path), "--on", on]) == 2
        assert "requirements-cluster.txt" in capsys.readouterr().err


def test_allowing_a_public_address_needs_a_place(place, capsys):  # noqa: F811
    with pytest.raises(SystemExit):
        chain.main([str(experiment(place, "a", ["train"])), "--allow-public"])
    assert "--allow-public goes with --on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wish", "fits"),
    [({}, True), ({"cpus": 4}, True), ({"cpus": 4, "gpus": 1.0}, False), ({"gpus": 0.5}, True)],
)
def test_a_unit_that_fits_on_no_node_is_refused(place, wish, fits):  # noqa: F811
    resources = [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}]
    nodes = [{"Alive": True, "Resources": each} for each in resources]
    nodes.append({"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}})
    here = SimpleNamespace(ray=SimpleNamespace(nodes=lambda: nodes))
    units = divided(experiment(place, "a", ["train"], **wish)).units
    if fits:
        cluster.Cluster.check(here, units)
    else:
        with pytest.raises(ParameterError, match=r"a train fold 0: no node.*cpus=4 and gpus=1.0"):
            cluster.Cluster.check(here, units)


def test_a_ray_that_is_started_here_listens_on_loopback_only():
    pytest.importorskip("ray", reason="Ray is optional: requirements-cluster.txt")
    started = cluster.open_ray("ray", allow_public=False)
    try:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        sockets = [each for one in processes for each in one.net_connections("inet")]
        hosts = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    finally:
        started.close()
    assert hosts
    assert all(ipaddress.ip_address(host.removeprefix("::ffff:")).is_loopback for host in hosts)
