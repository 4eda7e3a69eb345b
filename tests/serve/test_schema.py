"""The API as its own description has it: requests made up from it find no fault of the server's."""

import pytest
from serving import Running

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, settings  # noqa: E402

ENDLESS = "/v1/events"  # a stream that never ends
EXAMPLES = 8  # of each operation; benchmarks/serve_schema.py makes thousands


def test_requests_made_up_from_the_description_find_no_fault(server: Running) -> None:
    schema = schemathesis.openapi.from_dict(server.http.get("/openapi.json").json())
    schema.config.update(base_url=server.address)
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == ENDLESS:
            continue

        @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        def one(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            answer = case.call(timeout=30)
            assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.status_code} {answer.text}"
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

        from hypothesis import given

        given(case=operation.as_strategy())(one)()
    assert tried >= 8 * EXAMPLES
    assert server.http.get("/health").status_code == 200
