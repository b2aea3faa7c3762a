import { createRoot } from 'react-dom/client'
import { Total } from './Total'

createRoot(document.getElementById('root')!).render(<Total items={[{ name: 'Tea', cents: 450, count: 2 }]} />)
