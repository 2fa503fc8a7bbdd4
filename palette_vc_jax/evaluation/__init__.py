"""Evaluate colored films: films in, tables out.

from palette_vc_jax.evaluation import evaluate, text_table

print(text_table(evaluate("truth", {"ours": "colored"})))
"""

from palette_vc_jax.evaluation.comparison import EvaluationOptions, evaluate
from palette_vc_jax.evaluation.results import Results
from palette_vc_jax.evaluation.tables import text_table, to_json

__all__ = ["EvaluationOptions", "Results", "evaluate", "text_table", "to_json"]
