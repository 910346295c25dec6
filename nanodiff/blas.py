"""Matrix products on one thread: ours are too small to share.

OpenBLAS shares them nevertheless, and its threads then spin, waiting for more, on the
cores that the kernels need: that made a training step 2.3 times slower.
"""

from threadpoolctl import ThreadpoolController

ONE_BLAS_THREAD = ThreadpoolController().wrap(limits=1, user_api="blas")
