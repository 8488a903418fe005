"""Perplexity of held-out text before and after training."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    comments = {
        "perplexity_before": "Perplexity of held-out text: the pretrained backbone.",
        "perplexity_after": "Perplexity of held-out text: the model after the last epoch.",
    }
    for name, comment in comments.items():
        op.add_column("runs", sa.Column(name, sa.Double(), nullable=True, comment=comment))
