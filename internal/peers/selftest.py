"""Checks what can be checked without a rival: arithmetic, the table, the engine that tells whose a stream is."""

import json

import table
from echo_engine import dechunked
from load import median, ratio, trim
from suites.held import judge


def main():
    checks = [value for name, value in sorted(globals().items()) if name.startswith("check_")]
    for check in checks:
        check()
    print(f"{len(checks)} passed, 0 failed")
    return 0


def equal(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def target(**rounds):
    return {"requests": 1, "errors": 0, "rounds": rounds}


def check_medians_leave_out_what_is_not_known():
    equal(median(target(cpu=[3, None, 1]), "cpu"), 2)
    equal(median(target(), "cpu"), None)


def check_ratios_are_those_of_the_same_round():
    equal(ratio(target(cpu=[2, 30, 4]), target(cpu=[1, 10, 1]), "cpu"), 3)
    equal(ratio(target(cpu=[2]), target(cpu=[0]), "cpu"), None)


def check_ratios_of_what_is_added_are_those_of_medians():
    equal(ratio(target(added_x=[1, 2, 3]), target(added_x=[4, 4, 4]), "added_x"), 0.5)
    equal(ratio(target(added_x=[1]), target(added_x=[-1]), "added_x"), None)


def check_a_report_keeps_each_round():
    runs = [{"measures": {"itl_p99": 0.0123456, "unknown": 1}}, {"measures": {}}]
    report = {"concurrency": 2, "targets": [{"name": "a", "requests": 3, "errors": 1, "errors_by_kind": {"cut": 1}, "rounds": runs}]}
    kept = trim(report)["targets"]["a"]
    equal(kept, {"requests": 3, "errors": 1, "errors_by_kind": {"cut": 1}, "rounds": {"itl_p99": [0.01235, None]}})


def check_chunks_are_put_together():
    equal(dechunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET"), (b"abcde", b"GET"))
    equal(dechunked(b"3\r\nabc\r\n2\r\nd"), (b"abcd", None))


def stream(*tokens, done=True):
    events = [b"data: " + json.dumps({"choices": [{"delta": {"content": token}}]}).encode() + b"\n\n" for token in tokens]
    body = b"".join(events) + (b"data: [DONE]\n\n" if done else b"")
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def check_a_stream_is_judged_by_what_it_says():
    equal(judge("00000001", stream("00000001:0 ", "00000001:1 "), 2), None)
    equal(judge("00000001", stream("00000001:0 ", "00000002:1 "), 2), "foreign")
    equal(judge("00000001", stream("00000001:0 "), 2), "cut")
    equal(judge("00000001", stream("00000001:0 ", "00000001:1 ", done=False), 2), "cut")
    equal(judge("00000001", stream("00000001:0 ", "00000001:1 ")[:-30], 2), "cut")
    equal(judge("00000001", b"HTTP/1.1 503 No\r\n\r\n", 2), "refused")


def check_numbers_are_written_as_people_read_them():
    equal([table.number(value) for value in (12177.4, 213, 44.24, 7.126, 0.0333, 0, None)], ["12,177", "213", "44", "7.1", "0.033", "0", "–"])


def check_the_table_takes_the_place_between_its_marks():
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    equal(table.between(page, "new"), f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\nafter\n")
    equal(table.between("before\n", "new"), f"before\n{table.BEGIN}\n\nnew\n\n{table.END}\n")
