"""The whole of a vendor's proof: five lines."""

from sdkpack.testing import RuntimeConformance


class TestNpu2(RuntimeConformance):
    runtime = "acme.npu2"
