"""Writes chef-workers.json, the Grafana dashboard: python deploy/grafana/build.py. One row of PANELS is one panel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("chef-workers.json")
#: Title, unit, and the query of each line with its legend.
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Waiting and running", "short", {"{{queue}} {{state}}": "sum by (queue, state) (chefworkers_jobs)"}),
    ("Oldest waiting job", "s", {"{{queue}}": "chefworkers_queue_oldest_age_seconds"}),
    ("Ends per minute", "short", {
        "{{conclusion}} {{reason}}": "sum by (conclusion, reason) (rate(chefworkers_jobs_finished_total[5m])) * 60",
    }),
    ("Wait before the start", "s", {
        "p50": "histogram_quantile(0.5, sum by (le) (rate(chefworkers_job_wait_seconds_bucket[5m])))",
        "p95": "histogram_quantile(0.95, sum by (le) (rate(chefworkers_job_wait_seconds_bucket[5m])))",
    }),
    ("Time of a run, p95", "s", {
        "{{type}}": "histogram_quantile(0.95, sum by (le, type) (rate(chefworkers_job_run_seconds_bucket[5m])))",
    }),
    ("Phases, p95", "s", {
        "{{phase}}": "histogram_quantile(0.95, sum by (le, phase) (rate(chefworkers_job_phase_seconds_bucket[5m])))",
    }),
    ("Container start, p95", "s", {
        "{{path}}":
            "histogram_quantile(0.95, sum by (le, path) (rate(chefworkers_container_start_seconds_bucket[5m])))",
    }),
    ("Slots", "short", {"{{state}}": "chefworkers_slots", "workers": "chefworkers_workers"}),
    ("Trouble per hour", "short", {
        "retries, {{reason}}": "sum by (reason) (increase(chefworkers_job_retries_total[1h]))",
        "leases lost": "increase(chefworkers_leases_lost_total[1h])",
        "stale writes refused": "increase(chefworkers_stale_writes_refused_total[1h])",
        "Docker, {{reason}}": "sum by (reason) (increase(chefworkers_docker_errors_total[1h]))",
        "Redis, {{process}}": "sum by (process) (increase(chefworkers_redis_errors_total[1h]))",
    }),
    ("Webhooks", "short", {
        "{{endpoint}} pending": "chefworkers_webhook_pending",
        "{{endpoint}} lag (s)": "chefworkers_webhook_lag_seconds",
        "{{endpoint}} {{outcome}} per minute":
            "sum by (endpoint, outcome) (rate(chefworkers_webhook_deliveries_total[5m])) * 60",
    }),
    ("Requests, p99 by route", "s", {
        "{{route}}": "histogram_quantile(0.99, sum by (le, route) (rate(chefworkers_http_request_seconds_bucket[5m])))",
    }),
    ("Disk and memory", "bytes", {
        "free disk": "chefworkers_free_disk_bytes",
        "kept jobs": "chefworkers_kept_bytes",
        "Redis": "chefworkers_redis_memory_bytes",
    }),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard, two panels side by side."""
    panels = [
        {
            "id": number,
            "type": "timeseries",
            "title": title,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
            "gridPos": {"h": 8, "w": 12, "x": number % 2 * 12, "y": number // 2 * 8},
            "targets": [
                {"refId": chr(65 + place), "expr": query, "legendFormat": legend}
                for place, (legend, query) in enumerate(queries.items())
            ],
        }
        for number, (title, unit, queries) in enumerate(PANELS)
    ]
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    return {
        "title": "Chef Workers",
        "uid": "chef-workers",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")
