"""Packaging: everything it says is read from settings.ini."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read(Path(__file__).with_name("settings.ini"), encoding="utf-8")
settings = config["DEFAULT"]
package = settings["lib_path"]
data = ["py.typed", "**/*.pyi", "taxonomies/*.yaml", "priors/*.yaml", "pretrained/**/*", "sample/*", "simulation/tables/*"]
data += ["explorer/listener.*"]
extras = {name: settings[f"{name}_requirements"].split() for name in ("explorer", "dask", "hats", "stream", "onnx", "dev", "bench")}
extras["all"] = [*extras["explorer"], *extras["dask"], *extras["hats"], *extras["stream"], *extras["onnx"]]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=settings["keywords"].split(),
    classifiers=[f"Intended Audience :: {settings['audience']}", "Topic :: Scientific/Engineering :: Astronomy"],
    packages=find_packages(include=[package, f"{package}.*"]),
    package_data={package: data},
    install_requires=settings["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{package}={package}._modidx:d"],
    },
)
