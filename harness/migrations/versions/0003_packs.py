"""Seconds per step, measured alone, and what a run took in its pack."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    columns: dict[str, tuple[sa.types.TypeEngine, str]] = {
        "step_seconds": (sa.Double(), "Training seconds per optimizer step, alone."),
        "step_seconds_spread": (sa.Double(), "Its standard deviation, if it was repeated."),
        "pack_trials": (sa.Integer(), "Most trials that shared its steps; NULL: it ran alone."),
        "pack_seconds": (sa.Double(), "Wall time in its pack."),
        "pack_share_seconds": (sa.Double(), "Its share of the pack's training time."),
    }
    for name, (kind, comment) in columns.items():
        op.add_column("runs", sa.Column(name, kind, nullable=True, comment=comment))
