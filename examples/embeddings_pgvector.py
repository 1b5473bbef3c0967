"""Embeddings in PostgreSQL, with pgvector: store any number of texts, find the nearest.

DATABASE_URL names the database. Needs `pip install 'psycopg[binary]' pgvector`, and a PostgreSQL with that extension.
"""

import asyncio
import os
from collections.abc import Iterable

from openaiasync import Client, EmbedManyError

try:
    from pgvector import Vector
    from pgvector.psycopg import register_vector_async
    from psycopg import AsyncConnection
except ModuleNotFoundError as error:
    raise SystemExit(f"This example needs {error.name}: pip install 'psycopg[binary]' pgvector") from None

DIMENSIONS = 256
TABLE = f"""
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS notes (text text PRIMARY KEY, embedding vector({DIMENSIONS}) NOT NULL);
CREATE INDEX IF NOT EXISTS notes_by_embedding ON notes USING hnsw (embedding vector_cosine_ops);
"""
INSERT = "INSERT INTO notes VALUES (%s, %s) ON CONFLICT (text) DO UPDATE SET embedding = excluded.embedding"
NEAREST = "SELECT text, 1 - (embedding <=> %(to)s) FROM notes ORDER BY embedding <=> %(to)s LIMIT %(count)s"

NOTES = [
    "Cats sleep most of the day.",
    "",  # no model accepts an empty text
    "The parliament votes on the budget in June.",
    "A kitten naps in the afternoon sun.",
    "Interest rates rose again last month.",
]


async def store(client: Client, db: AsyncConnection, texts: Iterable[str]) -> None:
    """Embed and store all texts. They are read as needed: a million of them take no more memory than a few."""
    try:
        async with client.embed_many.stream(texts, dimensions=DIMENSIONS) as rows, db.cursor() as cursor:
            async for row in rows:
                await cursor.execute(INSERT, (row.text, Vector(row.vector.tolist())))
    except EmbedManyError as error:
        if error.index is None:  # a request failed as a whole
            raise
        for index, why in error.refused.items():
            print(f"not stored: texts[{index}], refused with {why.status_code}")
    await db.commit()


async def nearest(client: Client, db: AsyncConnection, question: str, count: int) -> list[tuple[str, float]]:
    """Return the texts nearest to a question, with their cosine similarity."""
    answer = await client.embedding(question, dimensions=DIMENSIONS)
    found = await db.execute(NEAREST, {"to": Vector(answer.vectors[0].tolist()), "count": count})
    return await found.fetchall()


async def main() -> None:
    url = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")
    async with Client(model="text-embedding-3-small") as client, await AsyncConnection.connect(url) as db:
        await db.execute(TABLE)
        await register_vector_async(db)
        await store(client, db, NOTES)
        for text, similarity in await nearest(client, db, "When do cats sleep?", 2):
            print(f"{similarity:6.3f}  {text}")


asyncio.run(main())
