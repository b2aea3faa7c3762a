"""A project in the shape of those that Chef makes: Vite, React and Convex, types in three places, and no tests.

What matters of that shape: a root tsconfig that only refers to others, a backend in convex/ with its generated files,
a script `lint` that needs a deployment, ESLint without a configuration, and a variable that only the platform sets.
"""

from __future__ import annotations

import json

LINT = "tsc -p convex -noEmit --pretty false && tsc -p . -noEmit --pretty false && convex dev --once && vite build"
PACKAGE = {
    "name": "flex-template",
    "private": True,
    "version": "0.0.0",
    "type": "module",
    "scripts": {"dev": "vite --open", "dev:backend": "convex dev", "build": "vite build", "lint": LINT},
    "dependencies": {"clsx": "^2.1.1", "convex": "^1.31.2", "react": "^19.2.1", "react-dom": "^19.2.1"},
    "devDependencies": {
        "@types/react": "^19.0.10",
        "@types/react-dom": "^19.0.4",
        "@vitejs/plugin-react": "^4.3.4",
        "eslint": "^9.21.0",
        "typescript": "~5.7.2",
        "vite": "^6.2.0",
    },
}
_BUNDLER = {"target": "ES2022", "module": "ESNext", "moduleResolution": "bundler", "skipLibCheck": True, "strict": True}
_APP = {
    **_BUNDLER,
    "lib": ["ES2022", "DOM", "DOM.Iterable"],
    "jsx": "react-jsx",
    "noEmit": True,
    "types": ["vite/client"],
}
_CONVEX = {**_BUNDLER, "lib": ["ES2021", "dom"], "allowJs": True, "jsx": "react-jsx", "noEmit": True}

FILES = {
    "package.json": json.dumps(PACKAGE),
    "tsconfig.json": '{"files": [], "references": [{"path": "./tsconfig.app.json"}, {"path": "./tsconfig.node.json"}]}',
    "tsconfig.app.json": json.dumps({"compilerOptions": _APP, "include": ["src"]}),
    "tsconfig.node.json": json.dumps({"compilerOptions": {**_BUNDLER, "noEmit": True}, "include": ["vite.config.ts"]}),
    "convex/tsconfig.json": "{ /* the backend */ "
    + json.dumps({"compilerOptions": _CONVEX, "include": ["./**/*"], "exclude": ["./_generated"]})[1:],
    "vite.config.ts": (
        "import { defineConfig } from 'vite'\nimport react from '@vitejs/plugin-react'\n"
        "export default defineConfig({ plugins: [react()] })\n"
    ),
    "index.html": '<!doctype html><div id="root"></div><script type="module" src="/src/main.tsx"></script>',
    "src/main.tsx": (
        "import { createRoot } from 'react-dom/client'\n"
        "import { ConvexProvider, ConvexReactClient } from 'convex/react'\nimport App from './App'\n"
        "const client = new ConvexReactClient(import.meta.env.VITE_CONVEX_URL as string)\n"
        "const root = createRoot(document.getElementById('root')!)\n"
        "root.render(<ConvexProvider client={client}><App /></ConvexProvider>)\n"
    ),
    "src/App.tsx": (
        "import clsx from 'clsx'\nimport { useQuery } from 'convex/react'\n"
        "import { api } from '../convex/_generated/api'\n"
        "export default function App() {\n"
        "  const notes = useQuery(api.notes.all) ?? []\n"
        "  return <ul className={clsx('notes')}>{notes.map((note) => <li key={note._id}>{note.text}</li>)}</ul>\n}\n"
    ),
    "convex/schema.ts": (
        "import { defineSchema, defineTable } from 'convex/server'\nimport { v } from 'convex/values'\n"
        "export default defineSchema({ notes: defineTable({ text: v.string() }) })\n"
    ),
    "convex/notes.ts": (
        "import { query } from './_generated/server'\n"
        "export const all = query({ args: {}, handler: (context) => context.db.query('notes').collect() })\n"
    ),
    "convex/_generated/api.js": "import { anyApi } from 'convex/server'\nexport const api = anyApi\n",
    "convex/_generated/api.d.ts": (
        "import type { ApiFromModules } from 'convex/server'\nimport type * as notes from '../notes.js'\n"
        "export declare const api: ApiFromModules<{ notes: typeof notes }>\n"
    ),
    "convex/_generated/dataModel.d.ts": (
        "import type { DataModelFromSchemaDefinition } from 'convex/server'\nimport schema from '../schema.js'\n"
        "export type DataModel = DataModelFromSchemaDefinition<typeof schema>\n"
    ),
    "convex/_generated/server.js": "export { queryGeneric as query } from 'convex/server'\n",
    "convex/_generated/server.d.ts": (
        "import type { QueryBuilder } from 'convex/server'\nimport type { DataModel } from './dataModel.js'\n"
        "export declare const query: QueryBuilder<DataModel, 'public'>\n"
    ),
}  # fmt: skip
