"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _descriptions()
    _suites_and_tasks()
    _trials()
    _runs()
    _members()
    _results()


def _descriptions() -> None:
    op.create_table(
        "backbones",
        sa.Column("name", sa.String(), nullable=False, comment="Hub id, or name of a local folder."),
        sa.Column("revision", sa.String(), nullable=False, comment="Hub commit, or sha256: and 16 digits if local."),
        sa.Column(
            "weights_sha256",
            sa.String(),
            nullable=True,
            comment="Hash of the weights, from the first run that told it.",
        ),
        sa.PrimaryKeyConstraint("name", "revision", name="pk_backbones"),
        comment="Pretrained models that trials start from.",
    )
    op.create_table(
        "example_sets",
        sa.Column("id", sa.String(length=16), nullable=False, comment="16 hex digits: hash of the content."),
        sa.Column("task", sa.String(), nullable=False, comment="Name of the task."),
        sa.Column("task_version", sa.Integer(), nullable=False, comment="Its version."),
        sa.Column("split", sa.String(), nullable=False, comment="The split that the rows are from."),
        sa.Column("ids", sa.LargeBinary(), nullable=False, comment="zlib-compressed JSON list of row ids."),
        sa.Column(
            "labels",
            sa.LargeBinary(),
            nullable=False,
            comment="zlib-compressed JSON list of true labels, in the same order.",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_example_sets"),
        comment="Rows that predictions were made for, stored once and shared by runs.",
    )
    op.create_table(
        "methods",
        sa.Column("name", sa.String(), nullable=False, comment="Name of the plugin: lora_xs."),
        sa.Column("title", sa.String(), nullable=False, comment="Name as printed: LoRA-XS."),
        sa.Column("paper", sa.String(), nullable=False, comment="Citation; empty if there is none."),
        sa.Column("formula", sa.String(), nullable=False, comment="The adapted weight in one line."),
        sa.Column("summary", sa.String(), nullable=False, comment="First paragraph of the plugin's docstring."),
        sa.Column(
            "control", sa.Boolean(), nullable=False, comment="True for a row that is only there to be compared with."
        ),
        sa.PrimaryKeyConstraint("name", name="pk_methods"),
        comment="Methods as their plugins described themselves, last description kept.",
    )
    op.create_table(
        "stacks",
        sa.Column("id", sa.String(length=16), nullable=False, comment="16 hex digits: hash of details."),
        sa.Column("details", sa.JSON(), nullable=False, comment="JSON: device, processor, versions."),
        sa.PrimaryKeyConstraint("id", name="pk_stacks"),
        comment="Hardware and software that runs happened on. Compare times within one stack only.",
    )


def _suites_and_tasks() -> None:
    op.create_table(
        "suites",
        sa.Column("name", sa.String(), nullable=False, comment="Name, with overrides in brackets if there were any."),
        sa.Column("title", sa.String(), nullable=False, comment="Name as printed."),
        sa.Column("description", sa.String(), nullable=False, comment="What the suite is for."),
        sa.Column(
            "rank_by", sa.String(), nullable=False, comment="Epoch that the board shows: last, selected or optimistic."
        ),
        sa.CheckConstraint("rank_by IN ('last', 'selected', 'optimistic')", name=op.f("ck_suites_rank_by")),
        sa.PrimaryKeyConstraint("name", name="pk_suites"),
        comment="Suites as they were last planned.",
    )
    op.create_table(
        "tasks",
        sa.Column("name", sa.String(), nullable=False, comment="Name of the plugin: mrpc."),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False, comment="Version of its meaning."),
        sa.Column("title", sa.String(), nullable=False, comment="Name as printed: MRPC."),
        sa.Column("kind", sa.String(), nullable=False, comment="classification, regression or generation."),
        sa.Column(
            "metrics", sa.JSON(), nullable=False, comment="JSON list of metrics, more is better; the first one ranks."
        ),
        sa.Column(
            "tests", sa.JSON(), nullable=False, comment="JSON list of test splits; the score is the mean over them."
        ),
        sa.Column("source", sa.String(), nullable=False, comment="Where the data come from."),
        sa.CheckConstraint("kind IN ('classification', 'regression', 'generation')", name=op.f("ck_tasks_kind")),
        sa.PrimaryKeyConstraint("name", "version", name="pk_tasks"),
        comment="Tasks by name and version; a change of meaning is a new version.",
    )


def _trials() -> None:
    op.create_table(
        "trials",
        sa.Column("id", sa.String(length=16), nullable=False, comment="16 hex digits: hash of canonical."),
        sa.Column("backbone", sa.String(), nullable=False, comment="Name of the backbone."),
        sa.Column("backbone_revision", sa.String(), nullable=False, comment="Its revision."),
        sa.Column("task", sa.String(), nullable=False, comment="Name of the task."),
        sa.Column("task_version", sa.Integer(), nullable=False, comment="Its version."),
        sa.Column("method", sa.String(), nullable=False, comment="Name of the method."),
        sa.Column("parameters", sa.JSON(), nullable=False, comment="JSON: the method's complete configuration."),
        sa.Column("recipe", sa.JSON(), nullable=False, comment="JSON: how it is trained."),
        sa.Column(
            "train_size",
            sa.Integer(),
            nullable=False,
            comment="Training rows asked for; 0 means all that the task has.",
        ),
        sa.Column("start", sa.String(), nullable=False, comment="Where training starts: pretrained, or warmup(...)."),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="Seed of the trial's random streams."),
        sa.Column("canonical", sa.String(), nullable=False, comment="Canonical JSON of the whole trial."),
        sa.ForeignKeyConstraint(
            ["backbone", "backbone_revision"],
            ["backbones.name", "backbones.revision"],
            name="fk_trials_backbone_backbone_revision",
        ),
        sa.ForeignKeyConstraint(["method"], ["methods.name"], name="fk_trials_method"),
        sa.ForeignKeyConstraint(
            ["task", "task_version"], ["tasks.name", "tasks.version"], name="fk_trials_task_task_version"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
        comment="Points of the grids: what was to be run. A trial may have many runs, or none yet.",
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=12), nullable=False, comment="12 random hex digits."),
        sa.Column("trial_id", sa.String(length=16), nullable=False, comment="What was run."),
        sa.Column("stack_id", sa.String(length=16), nullable=True, comment="What it ran on."),
        sa.Column("status", sa.String(), nullable=False, comment="ok, failed, oom, diverged or interrupted."),
        sa.Column("reason", sa.String(), nullable=False, comment="Why it did not end well, in one line; else empty."),
        sa.Column("traceback", sa.String(), nullable=False, comment="Python's traceback of a failure; else empty."),
        sa.Column("started_at", sa.String(length=32), nullable=False, comment="UTC, ISO 8601."),
        sa.Column("finished_at", sa.String(length=32), nullable=False, comment="UTC, ISO 8601."),
        sa.Column("adapter_params", sa.BigInteger(), nullable=True, comment="Trainable scalars outside the head."),
        sa.Column("head_params", sa.BigInteger(), nullable=True, comment="Trainable scalars of the head."),
        sa.Column("trainable_params", sa.BigInteger(), nullable=True, comment="adapter_params + head_params."),
        sa.Column("total_params", sa.BigInteger(), nullable=True, comment="All scalars of the adapted model."),
        sa.Column("train_flops", sa.Double(), nullable=True, comment="Floating-point operations of training."),
        sa.Column(
            "inference_flops_per_example", sa.Double(), nullable=True, comment="FLOPs of one test row's forward pass."
        ),
        sa.Column("load_seconds", sa.Double(), nullable=True, comment="Loading the backbone and the data."),
        sa.Column("init_seconds", sa.Double(), nullable=True, comment="Initialising the adapter (SVD, QR, gradient)."),
        sa.Column("train_seconds", sa.Double(), nullable=True, comment="Training steps only."),
        sa.Column("eval_seconds", sa.Double(), nullable=True, comment="All evaluations."),
        sa.Column(
            "start_seconds", sa.Double(), nullable=True, comment="Making the start (warm-up), when it was first made."
        ),
        sa.Column("examples_per_second", sa.Double(), nullable=True, comment="Training rows per training second."),
        sa.Column(
            "tokens_per_second", sa.Double(), nullable=True, comment="Training tokens, no padding, per training second."
        ),
        sa.Column(
            "padding_share", sa.Double(), nullable=True, comment="Share of padding among training positions, 0 to 1."
        ),
        sa.Column(
            "peak_memory_bytes", sa.BigInteger(), nullable=True, comment="Peak of the device, or growth of the process."
        ),
        sa.Column(
            "adapter_bytes", sa.BigInteger(), nullable=True, comment="Size of the adapter as a safetensors file."
        ),
        sa.Column("git_commit", sa.String(), nullable=True, comment="Git commit of the harness."),
        sa.Column(
            "git_dirty", sa.Boolean(), nullable=True, comment="True if the working tree differed from the commit."
        ),
        sa.Column("provenance", sa.JSON(), nullable=False, comment="JSON: what else is known of the run's making."),
        sa.CheckConstraint("status IN ('ok', 'failed', 'oom', 'diverged', 'interrupted')", name=op.f("ck_runs_status")),
        sa.ForeignKeyConstraint(["stack_id"], ["stacks.id"], name="fk_runs_stack_id"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name="fk_runs_trial_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        comment="Executions of trials. Rows are appended, never edited. NULL: not measured, or not known.",
    )
    op.create_index("ix_runs_stack_id", "runs", ["stack_id"])
    op.create_index("ix_runs_trial_id_started_at", "runs", ["trial_id", "started_at"])


def _members() -> None:
    op.create_table(
        "suite_members",
        sa.Column("suite", sa.String(), nullable=False, comment="Name of the suite."),
        sa.Column("grid", sa.String(), nullable=False, comment="Grid inside the suite: main, train-size."),
        sa.Column("label", sa.String(), nullable=False, comment="Name of the table row that the trial belongs to."),
        sa.Column("trial_id", sa.String(length=16), nullable=False, comment="The trial."),
        sa.Column(
            "position", sa.Integer(), nullable=False, comment="Order in which the suite names its trials, from 0."
        ),
        sa.ForeignKeyConstraint(["suite"], ["suites.name"], name="fk_suite_members_suite"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name="fk_suite_members_trial_id"),
        sa.PrimaryKeyConstraint("suite", "grid", "label", "trial_id", name="pk_suite_members"),
        comment="Which trials make up a suite; a trial may be in many.",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_suite_members_trial_id", "suite_members", ["trial_id"])


def _results() -> None:
    op.create_table(
        "losses",
        sa.Column("run_id", sa.String(length=12), nullable=False, comment="The run."),
        sa.Column("step", sa.Integer(), nullable=False, comment="Optimizer steps done."),
        sa.Column("loss", sa.Double(), nullable=True, comment="Mean loss since the point before; NULL if not finite."),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_losses_run_id"),
        sa.PrimaryKeyConstraint("run_id", "step", name="pk_losses"),
        comment="The training loss curve of a run.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "predictions",
        sa.Column("run_id", sa.String(length=12), nullable=False, comment="The run."),
        sa.Column("split", sa.String(), nullable=False, comment="The split."),
        sa.Column("epoch", sa.Integer(), nullable=False, comment="Epochs trained."),
        sa.Column("example_set_id", sa.String(length=16), nullable=False, comment="Ids and labels."),
        sa.Column(
            "predicted",
            sa.LargeBinary(),
            nullable=False,
            comment="zlib-compressed JSON list of predictions, in the set's order.",
        ),
        sa.ForeignKeyConstraint(["example_set_id"], ["example_sets.id"], name="fk_predictions_example_set_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_predictions_run_id"),
        sa.PrimaryKeyConstraint("run_id", "split", "epoch", name="pk_predictions"),
        comment="Per-example predictions of a run.",
    )
    op.create_index("ix_predictions_example_set_id", "predictions", ["example_set_id"])
    op.create_table(
        "scores",
        sa.Column("run_id", sa.String(length=12), nullable=False, comment="The run."),
        sa.Column("epoch", sa.Integer(), nullable=False, comment="Epochs trained; 0: before any training."),
        sa.Column("split", sa.String(), nullable=False, comment="select (cut from train) or a test split."),
        sa.Column("metric", sa.String(), nullable=False, comment="Name of the metric."),
        sa.Column("value", sa.Double(), nullable=True, comment="Its value; NULL if it was not finite."),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_scores_run_id"),
        sa.PrimaryKeyConstraint("run_id", "epoch", "split", "metric", name="pk_scores"),
        comment="One metric on one split after one epoch of a run.",
        sqlite_with_rowid=False,
    )
