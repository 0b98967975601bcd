"""A pod's files, laid out as a kubelet would, with the configuration's absolute paths pointing into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.k8s.rendered import Object, one
from tests.servers.certificates import Authority

SECRET = "0123456789abcdef0123456789abcdef0123456789ab"


@dataclass(frozen=True)
class Mount:
    """A volume as a container sees it.

    Attributes:
        path: where it is in the container.
        kind: configMap or secret.
        source: the object it comes from.
        files: name in the volume -> key of the object.
    """

    path: str
    kind: str
    source: str
    files: dict[str, str]


def mounts(name: str, deployment: Object, container: Object) -> Iterator[Mount]:
    """What a container of a rendered Deployment has mounted."""
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"].get("volumes", ())}
    for mount in container["volumeMounts"]:
        assert mount["readOnly"] is True
        volume = volumes.pop(mount["name"])
        if "configMap" in volume:
            source = volume["configMap"]["name"]
            keys = one(name, "ConfigMap", source)["data"]
            yield Mount(mount["mountPath"], "configMap", source, {key: key for key in keys})
        else:
            files = {item["path"]: item["key"] for item in volume["secret"]["items"]}
            yield Mount(mount["mountPath"], "secret", volume["secret"]["secretName"], files)
    assert not volumes, "a volume that nothing mounts"


def lay_out(name: str, every: list[Mount], folder: Path) -> Path:
    """Write the mounted files below a folder; returns the configuration's own folder."""
    pair = Authority(folder / "authority").issue("gateway.mcp-gateway.internal")
    contents = {".crt": pair.certificate.read_text(), ".key": pair.key.read_text()}
    contents[".pem"] = contents[".crt"] + contents[".key"]
    for mount in every:
        # A kubelet writes a folder for each state, and switches one link.
        state = folder / mount.path.lstrip("/") / "..2026_01_01"
        state.mkdir(parents=True)
        (state.parent / "..data").symlink_to(state.name)
        for file, key in mount.files.items():
            if mount.kind == "configMap":
                text = one(name, "ConfigMap", mount.source)["data"][key]
                for other in every:
                    text = text.replace(f"{other.path}/", f"{folder}{other.path}/")
                    text = text.replace(f"{other.path}\n", f"{folder}{other.path}\n")
            else:
                text = contents.get(Path(file).suffix, SECRET)
            (state / file).write_text(text)
            (state.parent / file).symlink_to(f"..data/{file}")
    return folder / "etc/gateway"
