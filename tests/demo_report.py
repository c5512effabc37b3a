"""A report of invented but plausible values: nothing in it was measured."""

from __future__ import annotations

import numpy as np

from demo_sizes import demo_candidates, demo_footprints, demo_passes, demo_versions
from edgedistill.core.artefacts import Interval
from edgedistill.core.task import Requirements
from edgedistill.evaluate.calibration import fit_temperature, log_softmax
from edgedistill.evaluate.fidelity import HopBars, Ledger
from edgedistill.evaluate.flips import find_flips
from edgedistill.evaluate.intervals import (
    accuracy_difference_interval,
    clopper_pearson_interval,
    retention_interval,
    wilson_interval,
)
from edgedistill.evaluate.metrics import (
    auroc,
    calibration_bins,
    expected_calibration_error,
    macro_f1,
    risk_coverage,
    roc_curve,
)
from edgedistill.evaluate.report.content import (
    Answered,
    Boundary,
    CalibrationSummary,
    Curve,
    DataFinding,
    EdgeCases,
    Making,
    ModelQuality,
    OutOfBoundsGroup,
    Quality,
    ReportContent,
    ScoreRow,
    Shipped,
    StageTime,
    TrainingCurve,
    reliability_bins,
)
from edgedistill.evaluate.report.ensemble import EnsembleRow, EnsembleSummary
from edgedistill.evaluate.report.field_quality import FieldQuality, FieldsSummary, LabelQuality
from edgedistill.evaluate.report.forgetting import StepAbility
from edgedistill.evaluate.report.removal import Removal
from edgedistill.evaluate.report.strategies_tried import StrategiesTried, StrategyTrial
from edgedistill.evaluate.robustness import PERTURBATIONS, RobustnessRow
from edgedistill.evaluate.verdict import (
    Count,
    FalseAbstention,
    Measurements,
    judge,
    reasons,
    ships,
)

LABELS = (
    "order_status",
    "cancel_order",
    "refund_request",
    "return_item",
    "change_address",
    "reset_password",
    "payment_failed",
    "invoice_copy",
    "delivery_delay",
    "damaged_item",
    "talk_to_human",
    "opening_hours",
)
TEXTS = (
    "where's my parcel?? ordered LAST monday",
    "pls cancel order 4417 i clicked twice",
    "i want my money back for the blue lamp",
    "how do i send back shoes that dont fit",
    "moved house, new address is 12 Elm St.",
    "cant log in, password link never arrives",
    "card declined but it's fine everywhere else",
    "need an invoice w/ VAT for <ACME & Sons>",
    "courier says tomorrow. again. third time!",
    "box was crushed and the mug is in pieces",
    "let me speak to a real person",
    "are you open on easter monday",
)
NUM_ROWS, NUM_CLASSES = 1800, len(LABELS)


def _mistaken(truth: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    # Neighbouring intents are the ones that get confused.
    wrong = (truth + rng.choice([1, -1, 2], len(truth))) % NUM_CLASSES
    hard = rng.random(len(truth)) * np.where(truth % 5 == 2, 0.45, 1.0)
    return np.where(hard < rate, wrong, truth)


def _model(name: str, role: str, answers: np.ndarray, **others: np.ndarray) -> ModelQuality:
    truth, teacher, student = others["truth"], others["teacher"], others["student"]
    right = answers == truth
    return ModelQuality(
        name,
        role,  # type: ignore[arg-type]
        wilson_interval(int(right.sum()), len(truth)),
        macro_f1(truth, answers, NUM_CLASSES),
        None if role == "teacher" else retention_interval(teacher == truth, right),
        None if role == "shipped" else accuracy_difference_interval(right, student == truth),
    )


def _boundary(
    rng: np.random.Generator, confidences: np.ndarray, right: np.ndarray
) -> tuple[Boundary, Count, Count]:
    inside = rng.normal(0, 1, NUM_ROWS)
    near, far = rng.normal(2.3, 1, 60), rng.normal(3.6, 1, 45)
    threshold = 1.72
    outside = np.concatenate([near, far])

    def group(name: str, scores: np.ndarray) -> OutOfBoundsGroup:
        refused = int((scores > threshold).sum())
        recall = clopper_pearson_interval(refused, len(scores))
        return OutOfBoundsGroup(name, len(scores), recall, auroc(inside, scores))

    false_rate, true_rate = roc_curve(inside, outside)
    curve = risk_coverage(confidences, right)
    refused_inside = Count(int((inside > threshold).sum()), NUM_ROWS)
    boundary = Boundary(
        "energy",
        "energy: AUROC 0.9712 on out-of-bounds validation rows, within 0.003 of the best "
        "(trained, 0.9731) and smaller",
        0.05,
        clopper_pearson_interval(refused_inside.num_hits, NUM_ROWS),
        (
            ScoreRow("energy", 0.9712, 0, True),
            ScoreRow("max_logit", 0.9698, 0, False),
            ScoreRow("max_probability", 0.9455, 0, False),
            ScoreRow("feature_distance", 0.9581, 90_120, False),
            ScoreRow("feature_distance, rank 32", 0.9602, 18_420, False),
            ScoreRow("trained", 0.9731, 91_044, False),
        ),
        (group("all", outside), group("near", near), group("far", far)),
        Curve.from_arrays(false_rate, true_rate),
        Curve.from_arrays(curve.coverage, curve.risk),
        curve.area,
    )
    return boundary, refused_inside, Count(int((outside > threshold).sum()), len(outside))


def _making() -> Making:
    epochs = np.arange(1, 13)
    return Making(
        (0,),
        (("python", "3.11.9"), ("numpy", "2.4.6"), ("onnxruntime", "1.31.1"), ("torch", "2.13.0")),
        (
            ("task file", "5f0c9b1d2a7e44c0"),
            ("data", "b81de0f37c5a2296"),
            ("teacher", "53aa51172d142c89"),
        ),
        (
            StageTime("data", 1.8),
            StageTime("teacher", 212.4, reused=True),
            StageTime("students", 148.3),
            StageTime("compression", 21.7),
            StageTime("evaluation", 17.2),
        ),
        (
            TrainingCurve(
                "distilled",
                "validation accuracy",
                tuple((0.948 - 0.25 * np.exp(-epochs / 2)).tolist()),
            ),
            TrainingCurve(
                "without teacher",
                "validation accuracy",
                tuple((0.931 - 0.3 * np.exp(-epochs / 2.4)).tolist()),
            ),
        ),
    )


def _ledger(
    truth: np.ndarray, teacher: np.ndarray, student: np.ndarray, logits: np.ndarray
) -> Ledger:
    ledger = Ledger(truth)
    ledger.record("teacher", teacher)
    ledger.record("student", student, logits=logits, bars=HopBars(agreement=0.9))
    ledger.record("vocabulary pruned", student, logits=logits + 0.01, bars=HopBars(agreement=0.98))
    ledger.record("int8 embeddings", student, logits=logits - 0.03, bars=HopBars(agreement=0.99))
    ledger.record("exported", student, logits=logits - 0.03, bars=HopBars(agreement=0.995))
    ledger.record("bundle", student, note="through tokenizer, guard and decoding")
    return ledger


def _findings() -> tuple[DataFinding, ...]:
    return (
        DataFinding("warning", "near duplicates between train and test", 4, TEXTS[:2]),
        DataFinding("warning", "same text with two labels", 2, (TEXTS[6],)),
        DataFinding("info", "texts with characters unseen in train", 11),
    )


def _robustness(
    truth: np.ndarray, student: np.ndarray, rng: np.random.Generator
) -> tuple[RobustnessRow, ...]:
    lost = dict(zip(PERTURBATIONS, (0.06, 0.0, 0.004, 0.002, 0.003, 0.05, 0.0), strict=True))
    rows = []
    for name, rate in {"unchanged": 0.0, **lost}.items():
        answers = np.where(rng.random(NUM_ROWS) < rate, (truth + 1) % NUM_CLASSES, student)
        right = answers == truth
        rows.append(
            RobustnessRow(
                name,
                NUM_ROWS,
                0 if name == "unchanged" else NUM_ROWS,
                wilson_interval(int(right.sum()), NUM_ROWS),
                accuracy_difference_interval(student == truth, right),
                float(np.mean(answers == student)),
            )
        )
    return tuple(rows)


def _ensemble() -> EnsembleSummary:
    """Two members of which one has no weight, and the whole."""
    test = Interval(0.96, 0.955, 0.965)
    rows = (
        EnsembleRow("static", "hidden_size 128", 1.0, 0.97, test),
        EnsembleRow("static-2", "hidden_size 128", 0.0, 0.95, test),
        EnsembleRow("ensemble", "", None, 0.972, test),
    )
    return EnsembleSummary(rows, "probabilities", "likelihood", "ensemble")


def make_demo_content(*, required_retention: float = 0.96) -> ReportContent:
    """Everything a report can show; a higher required retention makes the verdict negative."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, NUM_CLASSES, NUM_ROWS)
    texts = [TEXTS[label] for label in truth]
    teacher = _mistaken(truth, 0.03, rng)
    student = np.where(rng.random(NUM_ROWS) < 0.985, teacher, _mistaken(truth, 0.4, rng))
    undistilled, linear = _mistaken(truth, 0.05, rng), _mistaken(truth, 0.058, rng)
    logits = rng.normal(0, 1, (NUM_ROWS, NUM_CLASSES)) * 0.8
    logits[np.arange(NUM_ROWS), student] += rng.gamma(2.0, 1.1, NUM_ROWS) + 4 * (student == truth)
    logits *= 1.6
    temperature = fit_temperature(logits, truth)
    before, after = (np.exp(log_softmax(logits, t)).max(axis=1) for t in (1.0, temperature))
    boundary, refused_inside, refused_outside = _boundary(rng, after, student == truth)
    footprint, teacher_footprint = demo_footprints(rng)
    ledger = _ledger(truth, teacher, student, logits)
    judgements = judge(
        Requirements(
            retention=required_retention,
            size_mb=2.0,
            latency_p95_ms=0.15,
            out_of_bounds_recall=0.6,
        ),
        Measurements(
            retention_interval(teacher == truth, student == truth),
            footprint.size_bytes,
            footprint.latency.p95_ms,
            footprint.latency.p95_upper_ms or 0.0,
            Count(500, 500),
            Count(NUM_ROWS, NUM_ROWS),
            refused_outside,
            FalseAbstention(0.05, 900, refused_inside),
        ),
        hops=ledger.hops,
    )
    answers = {"truth": truth, "teacher": teacher, "student": student}
    return ReportContent(
        task="support_desk",
        description="Routes short messages of customers to one of twelve intents.",
        created="2026-11-21T03:00:00+00:00",
        ships=ships(judgements),
        requirements=tuple(judgements),
        reasons=reasons(judgements),
        ensemble=_ensemble(),
        earlier_steps=(
            StepAbility("general.csv", 400, 0.91, 0.88, 0.85, Interval(0.934, 0.91, 0.955), 3),
        ),
        shipped=Shipped(
            "static",
            "token and hashed bigram embeddings, 128 wide, convolution 192, int8 embeddings",
            footprint,
            teacher_footprint,
            1,
            "Invented machine, 2 cores at 2.6 GHz.",
        ),
        # Of an extraction: the report of one task has every part that any kind may have.
        fields=FieldsSummary(
            (
                FieldQuality("order_number", 120, 0.98, 0.95, 0.965, 0.99, 0.97, 0.99),
                FieldQuality("day", 0, 0.0, 0.0, 0.0, 0.0, 0.0),
            ),
            least_confidence=0.42,
            withheld=0.03,
            precision=0.96,
            precision_kept=0.98,
        ),
        removal=(
            Removal("", "", 22_000_000, 10_600_000, 88_000_000, 4.1),
            Removal("drop_layers", "share: 0.5", 16_700_000, 5_300_000, 67_000_000, 2.2),
        ),
        strategies=StrategiesTried(
            "response",
            "strategy: response",
            "After 1 epoch, labels ranked first and is no better: plain response is kept.",
            (
                StrategyTrial(
                    "response",
                    "strategy: response",
                    1,
                    1,
                    900,
                    0.91,
                    0.01,
                    None,
                    None,
                    4.0,
                    True,
                    "chosen",
                ),
                StrategyTrial(
                    "labels",
                    "strategy: {name: response, hard_weight: 0.3}",
                    1,
                    1,
                    900,
                    0.92,
                    0.01,
                    0.01,
                    0.006,
                    4.2,
                    False,
                    "not ahead by more than a standard error",
                ),
                StrategyTrial(
                    "average",
                    "strategy: [response, average]",
                    1,
                    1,
                    900,
                    None,
                    None,
                    None,
                    None,
                    0.0,
                    False,
                    "training failed: the loss is not a number",
                ),
            ),
            (("feature", "a static student has no hidden states to compare"),),
            num_ranking=300,
            num_deciding=300,
            limit_s=1440.0,
        ),
        labels=(
            LabelQuality(
                "kind",
                4,
                Interval(0.97, 0.95, 0.98),
                Interval(0.98, 0.97, 0.99),
                Interval(0.94, 0.92, 0.96),
                Interval(0.99, 0.97, 1.0),
                Interval(0.03, 0.01, 0.05),
                0.012,
            ),
        ),
        quality=Quality(
            NUM_ROWS,
            (
                _model("bundle", "shipped", student, **answers),
                _model("teacher", "teacher", teacher, **answers),
                _model("same student, no teacher", "undistilled", undistilled, **answers),
                _model("TF-IDF, linear", "linear", linear, **answers),
            ),
        ),
        ledger=ledger.hops,
        candidates=demo_candidates(),
        skipped=(("truncated-4-layers", "would take about 9.1 MB, over the 8 MB"),),
        reach=("latency binds: p95 1.62 ms is within reach (fast), p95 1.60 ms asked for",),
        versions=demo_versions(),
        passes=demo_passes(),
        boundary=boundary,
        calibration=CalibrationSummary(
            temperature,
            expected_calibration_error(before, student == truth),
            expected_calibration_error(after, student == truth),
            expected_calibration_error(after, student == truth, equal_mass=True),
            reliability_bins(calibration_bins(after, student == truth)),
        ),
        robustness=_robustness(truth, student, rng),
        edge_cases=EdgeCases(
            54,
            Interval(0.8704, 0.7558, 0.9358),
            (
                Answered("REFUND. NOW. or i call my bank", "refund_request", "payment_failed"),
                Answered("it came but not to me", "delivery_delay", "refused: out of bounds"),
            ),
        ),
        flips=find_flips(truth, teacher, student, labels=LABELS, texts=texts),
        splits=(("train", 1044), ("validation", 252), ("test", NUM_ROWS)),
        data_findings=_findings(),
        making=_making(),
        non_goals=("Legal or medical advice.", "Languages other than English."),
    )
