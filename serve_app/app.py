"""Wires every part: a ClusterConfig becomes a Serve application.

The only entry for a laptop, `serve deploy` and KubeRay. Without `from __future__ import
annotations`, because Ray reads the parameter's class to validate `args`.
"""

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from autoscaling.ray_policy import Scaling, publish, publish_report
from deployments.careful_router import CAREFUL
from deployments.decoder import DecoderReplica
from deployments.dispatcher import DispatcherOptions, DispatcherReplica
from deployments.encoder import EncoderReplica
from deployments.leaving import almost_gone
from deployments.local_stages import LocalOptions
from deployments.logs import install_logs
from deployments.node_metrics import ScalingMetrics, metrics_of_node
from deployments.nodes import alive_nodes, cluster_nodes
from deployments.safety import SafetyReplica
from deployments.traces.reports import exporter_of
from dispatch.local_stages import ClassifierOptions, EncoderOptions
from dispatch.settings import DispatchSettings
from jobs.blobs.opening import check_store, open_store
from jobs.client.async_ledger import AsyncLedger
from jobs.db.database import check_place
from jobs.retention import Retention
from jobs.sql.sql_ledger import SqlLedger
from serve_app.admission.tenants import PER_GATEWAY
from serve_app.config.cluster import ClusterConfig, ending, separate_model, with_live
from serve_app.config.ledger_check import check_blobs, check_ledger
from serve_app.config.provenance import check_provenance
from serve_app.config.sections import HEADROOM
from serve_app.delivery.tracing import RequestTraces
from serve_app.gateway import adopt, create_app, let_go
from serve_app.wire.models import announcement

HEALTH = {"health_check_period_s": 2, "health_check_timeout_s": 30}
GATEWAY_GRACE_SECONDS = 20.0
"""For open requests of a gateway that Serve stops; then they are asked to come back."""
STAGE: dict[str, Any] = {**HEALTH, "request_router_config": CAREFUL}
"""Of deployments that dispatchers call."""


def build(args: ClusterConfig) -> Application:
    """One lane: a gateway, and of each model dispatcher, encoder, classifier and decoders, by the
    args of the config file. Relative paths count from the directory in which the cluster was
    started. ConfigError for a ledger that does not answer, or that several nodes cannot share, a
    bucket that cannot be used, and certificates and keys that cannot sign."""
    _check(args)
    return _gateway(args, [_dispatcher(one, ending(args, one)) for one in args.each()])


def gateway(args: ClusterConfig) -> Application:
    """A gateway alone: it serves the models that announce themselves in its lane, loads no tensors
    and reads none of their files. ConfigError as `build`."""
    _check(args)
    return _gateway(args, None)


def model(args: ClusterConfig) -> Application:
    """One model of a lane without a gateway, to come, go and be upgraded alone. ConfigError as
    `build`."""
    _check(args)
    return _dispatcher(separate_model(args), "", args)


def _check(args: ClusterConfig) -> None:
    check_ledger(args.ledger.dsn, alive_nodes())
    check_blobs(args.blobs.place())
    check_provenance(args.identity_files())


def _gateway(args: ClusterConfig, dispatchers: list[Application] | None) -> Application:
    return (
        serve.deployment(serve.ingress()(GatewayReplica), name="Gateway")
        .options(
            num_replicas=args.gateway.replicas,
            max_ongoing_requests=PER_GATEWAY,
            graceful_shutdown_timeout_s=GATEWAY_GRACE_SECONDS,
            ray_actor_options={"num_cpus": args.gateway.num_cpus},
            user_config={},  # what a config file's `deployments` section overrides
            **HEALTH,
        )
        .bind(args, dispatchers)
    )


class GatewayReplica:
    """The ingress. It never calls the dispatchers, since everything passes through the ledger; it
    is bound to them because Serve starts what the ingress of an application depends on. None: the
    models are applications of their own."""

    def __init__(self, args: ClusterConfig, dispatchers: list[DeploymentHandle] | None) -> None:
        self._args = args
        check_place(args.ledger.dsn, alive_nodes())  # nodes may have come since
        ledger = SqlLedger(
            args.ledger.dsn,
            tiers=args.tier_promises(),
            least_share=args.least_share,
            watch_grace_seconds=args.gateway.watch_grace_seconds,
            days=args.quota.days(),
        )
        place = args.blobs.place()
        check_store(ledger, place)
        self._dispatchers = dispatchers
        self._gateway = create_app(
            AsyncLedger(ledger),
            open_store(place),
            args,
            alone=dispatchers is None,
            nodes=cluster_nodes,
            metrics=metrics_of_node(args.metrics.settings()),
        )
        self._leaving: asyncio.Task[None] | None = None
        install_logs(args.logs.settings(), "gateway")
        traces = exporter_of(args.traces.settings(), "gateway")
        if traces is not None:
            self._gateway.add_middleware(RequestTraces, exporter=traces)

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's name
        """What answers HTTP here."""
        return self._gateway

    async def check_health(self) -> None:
        """Serve asks every two seconds from its start on, on the loop that answers requests; so it
        is here that this replica begins to listen for its stop."""
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        await almost_gone(GATEWAY_GRACE_SECONDS)
        let_go(self._gateway)

    def reconfigure(self, live: dict[str, Any]) -> None:
        """Tiers, keys, limits, qualities and what decoders scale by, of an edited config file,
        without a restart. Serve calls this at the start, too."""
        config = with_live(self._args, live)
        adopt(self._gateway, config)
        publish_report(ScalingMetrics(config.metrics.settings()))
        for one in config.each() if self._dispatchers is not None else ():
            decoder = f"Decoder{ending(config, one)}"
            publish(serve.get_replica_context().app_name, decoder, _scaling(one))


class ModelReplica(DispatcherReplica):
    """The dispatcher of a model that is an application of its own: what a gateway reads of a config
    for its models is read here."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        args: ClusterConfig,
        settings: DispatchSettings,
        options: DispatcherOptions,
        stages: dict[str, DeploymentHandle],
    ) -> None:
        self._args = args
        await super().__init__(settings, options, stages)

    def reconfigure(self, live: dict[str, Any]) -> None:
        """Qualities and what decoders scale by, too."""
        super().reconfigure(live)
        config = separate_model(with_live(self._args, live))
        self.announce(announcement(config))
        publish_report(ScalingMetrics(config.metrics.settings()))
        publish(serve.get_replica_context().app_name, "Decoder", _scaling(config))


def _scaling(config: ClusterConfig) -> Scaling:
    return Scaling(
        lane=config.queue,
        dsn=config.ledger.dsn,
        weights={name: tier.weight for name, tier in config.tiers.items()},
        least_share=config.least_share,
        late_seconds=config.scaling.late_seconds,
        numbers=config.scaling.numbers(1, 1),
    )


def _dispatcher(
    args: ClusterConfig, name_ending: str, alone: ClusterConfig | None = None
) -> Application:
    """With the stages of its model. alone: the args of the model's own application."""
    section = args.dispatcher
    stages = {"decoder": _decoder(args, name_ending)}
    encoder, classifier = _encoder_options(args), _classifier_options(args)
    if not args.encoder.local:
        stages["encoder"] = _encoder(args, name_ending, encoder)
    if not args.safety.local:
        stages["classifier"] = _classifier(args, name_ending, classifier)
    settings = DispatchSettings(
        lane=args.queue,
        lease_seconds=section.lease_seconds,
        heartbeat_seconds=section.heartbeat_seconds,
        ready=section.ready_queue,
        screen_at=args.safety.screen_at,
        log_prompts=args.safety.log_prompts,
        attempts=section.attempts,
        call_timeout_seconds=section.call_timeout_seconds,
    )
    options = DispatcherOptions(
        dsn=args.ledger.dsn,
        blobs=args.blobs.place(),
        tiers=args.tier_promises(),
        thresholds=args.thresholds(),
        least_share=args.least_share,
        finishing_threads=section.finishing_threads,
        enlarger=section.enlarger,
        pass_timeout_seconds=section.pass_timeout_seconds,
        retention=Retention(**args.retention.model_dump(exclude={"files_seconds"})),
        model=announcement(args),
        identity=args.identity_files(),
        family_options=dict(args.model.options),
        telemetry=args.telemetry(),
        local=LocalOptions(
            encoder=encoder if args.encoder.local else None,
            classifier=classifier if args.safety.local else None,
        ),
    )
    replica = DispatcherReplica if alone is None else ModelReplica
    deployment = serve.deployment(replica, name=f"Dispatcher{name_ending}").options(
        num_replicas=section.replicas,
        graceful_shutdown_timeout_s=20,
        ray_actor_options={"num_cpus": section.num_cpus},
        user_config={},
        **HEALTH,
    )
    given = () if alone is None else (alone,)
    return deployment.bind(*given, settings, options, stages)


def _encoder_options(args: ClusterConfig) -> EncoderOptions:
    section = args.encoder
    return EncoderOptions(
        args.model.family,
        dict(args.model.options),
        threads=section.threads,
        max_batch=section.max_batch,
        batch_wait_seconds=section.batch_wait_ms / 1000,
    )


def _classifier_options(args: ClusterConfig) -> ClassifierOptions:
    section = args.safety
    return ClassifierOptions(
        section.screens,
        prompt=section.prompt,
        weights=str(args.model.options.get("weights", "")),
        threads=section.threads,
        policy=args.moderation.policy(),
        classifiers=section.specs(),
    )


def _encoder(args: ClusterConfig, name_ending: str, options: EncoderOptions) -> Application:
    section = args.encoder
    return (
        serve.deployment(EncoderReplica, name=f"PromptEncoder{name_ending}")
        .options(
            num_replicas=section.replicas,
            max_ongoing_requests=4 * section.max_batch,
            ray_actor_options={"num_cpus": section.num_cpus, "num_gpus": section.num_gpus},
            **STAGE,
        )
        .bind(options, args.telemetry())
    )


def _classifier(args: ClusterConfig, name_ending: str, options: ClassifierOptions) -> Application:
    section = args.safety
    return (
        serve.deployment(SafetyReplica, name=f"SafetyClassifier{name_ending}")
        .options(
            num_replicas=section.replicas,
            max_ongoing_requests=64,
            ray_actor_options={"num_cpus": section.num_cpus},
            user_config={},
            **STAGE,
        )
        .bind(options, args.telemetry())
    )


def _decoder(args: ClusterConfig, name_ending: str) -> Application:
    section = args.decoder
    return (
        serve.deployment(DecoderReplica, name=f"Decoder{name_ending}")
        .options(
            num_replicas=section.replicas,
            max_ongoing_requests=section.slots + HEADROOM,
            graceful_shutdown_timeout_s=section.grace_seconds + 5,
            ray_actor_options={"num_cpus": section.num_cpus, "num_gpus": section.num_gpus},
            **STAGE,
        )
        .bind(
            args.model.family,
            dict(args.model.options),
            section.slots,
            grace_seconds=section.grace_seconds,
            telemetry=args.telemetry(),
        )
    )
