"""Who submitted a run, which driver is at work on a trial, and runs that took too long."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

STATUSES = ("ok", "failed", "oom", "diverged", "timeout", "interrupted")


def upgrade() -> None:
    comment = "Who submitted it, as a bundle says; NULL: run into this database."
    with op.batch_alter_table("runs") as runs:
        if op.get_bind().dialect.name != "sqlite":  # SQLite's tables are copied, without the check
            runs.drop_constraint(op.f("ck_runs_status"), type_="check")
        listed = ", ".join(repr(status) for status in STATUSES)
        runs.create_check_constraint(op.f("ck_runs_status"), f"status IN ({listed})")
        meanings = "ok, failed, oom, diverged, timeout or interrupted."
        runs.alter_column("status", existing_type=sa.String(), existing_nullable=False, comment=meanings)
        runs.add_column(sa.Column("origin", sa.String(), nullable=True, comment=comment))
    op.create_table(
        "leases",
        sa.Column("trial_id", sa.String(length=16), nullable=False, comment="The trial."),
        sa.Column("owner", sa.String(length=64), nullable=True, comment="The driver: machine, process; NULL: nobody."),
        sa.Column(
            "expires_at", sa.String(length=32), nullable=True, comment="When others may take it, unless it is renewed."
        ),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name="fk_leases_trial_id"),
        sa.PrimaryKeyConstraint("trial_id", name="pk_leases"),
        comment="Which driver is at work on which trial, so that no other one does it too.",
    )
