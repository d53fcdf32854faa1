from concurrent.futures import ThreadPoolExecutor

from turnwired.telemetry.metrics import CODES, END_STATES, OTHER, Metrics


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_two_instances_do_not_mix():
    one, two = Metrics(), Metrics()
    one.turn_ended("SUCCEEDED", 1)
    assert value(one, "turnwire_turns_total", state="SUCCEEDED") == 1
    assert value(two, "turnwire_turns_total", state="SUCCEEDED") == 0


def test_an_rpc_is_counted_and_timed_by_method_and_code():
    metrics = Metrics()
    metrics.rpc("/turnwire.v1.TurnService/Chat", "OK", 0.2)
    metrics.rpc("/turnwire.v1.TurnService/Chat", "NOT_FOUND", 0.1)
    labels = {"method": "/turnwire.v1.TurnService/Chat", "code": "OK"}
    assert value(metrics, "turnwire_rpcs_total", **labels) == 1
    assert value(metrics, "turnwire_rpc_seconds_sum", **labels) == 0.2


def test_a_request_is_counted_by_its_route_and_not_by_its_path():
    metrics = Metrics()
    metrics.http("alumia", "/api/v1/sessions/{id}", 404, 0.01)
    metrics.http("alumia", "", 404, 0.01)
    labels = {"surface": "alumia", "status": "404"}
    assert value(metrics, "turnwire_http_requests_total", route="/api/v1/sessions/{id}", **labels) == 1
    assert value(metrics, "turnwire_http_requests_total", route="none", **labels) == 1


def test_a_commit_counts_its_events_and_deltas():
    metrics = Metrics()
    metrics.commit(0.004, events=12, deltas=10)
    metrics.commit(0.004, events=1, deltas=0)
    assert value(metrics, "turnwire_commit_seconds_count") == 2
    assert value(metrics, "turnwire_commit_events_sum") == 13
    assert value(metrics, "turnwire_deltas_total") == 10


def test_watches_are_counted_while_they_are_open():
    metrics = Metrics()
    metrics.watch_opened("turn")
    metrics.watch_opened("turn")
    metrics.watch_closed("turn")
    metrics.watch_fell_back()
    metrics.lease_lost()
    assert value(metrics, "turnwire_watchers", kind="turn") == 1
    assert value(metrics, "turnwire_watch_fallbacks_total") == 1
    assert value(metrics, "turnwire_leases_lost_total") == 1


def test_the_first_delta_is_timed():
    metrics = Metrics()
    metrics.first_delta(0.003)
    assert value(metrics, "turnwire_first_delta_seconds_count") == 1


def test_a_gauge_is_read_at_each_scrape():
    metrics, queue = Metrics(), []
    metrics.gauge("queue_depth", "Turns that wait.", lambda: len(queue))
    assert value(metrics, "turnwire_queue_depth") == 0
    queue.append(1)
    assert value(metrics, "turnwire_queue_depth") == 1


def test_strange_values_make_no_series_of_their_own():
    metrics = Metrics()
    for number in range(2_000):
        metrics.rpc(f"/made.up/{number}", f"CODE{number}", 0)
        metrics.http(f"s{number}", f"/r/{number}", number * 1_000 + 999, 0)
        metrics.turn_ended(f"S{number}", 0)
        metrics.watch_opened(f"w{number}")
    text = metrics.render()[0].decode()
    assert sum(line.startswith("turnwire_rpcs_total{") for line in text.splitlines()) <= 513
    assert sum(line.startswith("turnwire_http_requests_total{") for line in text.splitlines()) <= 513
    assert value(metrics, "turnwire_rpcs_total", method=OTHER, code=OTHER) == 2_000 - 512
    assert value(metrics, "turnwire_turns_total", state=OTHER) == 2_000
    assert value(metrics, "turnwire_watchers", kind=OTHER) == 2_000


def test_counting_from_many_threads_loses_nothing():
    metrics = Metrics()
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda n: metrics.rpc(f"/m/{n % 20}", "OK", 0), range(2_000)):
            pass
    counted = sum(value(metrics, "turnwire_rpcs_total", method=f"/m/{n}", code="OK") for n in range(20))
    assert counted == 2_000


def test_the_page_is_in_the_format_that_was_asked_for():
    metrics = Metrics("1.2.3")
    page, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    assert b'turnwire_build_info{version="1.2.3"} 1.0' in page
    assert b"process_cpu_seconds_total" in page
    page, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


def test_the_known_values_are_those_of_grpc_and_of_the_turn():
    import grpc

    assert {code.name for code in grpc.StatusCode} == set(CODES)
    from turnwire.v1 import turn_pb2

    states = set(dict(turn_pb2.Turn.State.items()))
    assert {f"STATE_{state}" for state in END_STATES} <= states
